-- The complete device side.

-- Dynamic registration: the switch of a product, tokens of devices that registered themselves.
-- 0: no device of the product may register itself; 1: those may whose names it has; 2: others, too.
ALTER TABLE product ADD COLUMN registration BIGINT NOT NULL DEFAULT 0;
-- When it was last reset, until it logs in after it has registered anew.
ALTER TABLE device ADD COLUMN reset_at BIGINT;
-- How often what it proves itself with has changed: a token of the HTTP channel names the count that it was made at.
ALTER TABLE device ADD COLUMN credentials BIGINT NOT NULL DEFAULT 0;
-- What a device that registered without pre-registration logs in with: its client id, and the SHA-256 of its token.
ALTER TABLE device ADD COLUMN token_client TEXT COLLATE "C";
ALTER TABLE device ADD COLUMN token_hash BYTEA;

-- Gateways: which devices are behind which one.
-- A device is behind at most one gateway.
CREATE TABLE topo (
  device BIGINT NOT NULL PRIMARY KEY,
  gateway BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX topo_gateway ON topo (gateway, device);

-- Products whose devices prove who they are with a certificate.
-- 1: its devices log in with certificates; 0: with their secrets.
ALTER TABLE product ADD COLUMN certified BIGINT NOT NULL DEFAULT 0;
-- The authority that makes devices' certificates (PEM), made when it is first needed; its key is sealed.
CREATE TABLE device_authority (
  id BIGINT NOT NULL PRIMARY KEY,
  certificate TEXT COLLATE "C" NOT NULL,
  key_sealed BYTEA NOT NULL
);
-- The certificates that were asked for, with their keys, sealed. A deleted device's stays, without its key.
CREATE TABLE device_certificate (
  device BIGINT NOT NULL PRIMARY KEY,
  serial TEXT COLLATE "C" NOT NULL,
  certificate TEXT COLLATE "C" NOT NULL,
  key_sealed BYTEA NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX device_certificate_serial ON device_certificate (serial);

-- A device is told of one module at a time: since when it is a task's turn, and when one that waits is looked at again.
ALTER TABLE task ADD COLUMN told_at BIGINT;
ALTER TABLE task ADD COLUMN hold_until BIGINT;
