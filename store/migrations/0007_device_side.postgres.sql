-- The complete device side.

-- Dynamic registration: the switch of a product, tokens of devices that registered themselves.

-- Gateways: which devices are behind which one.

-- Products whose devices prove who they are with a certificate.
