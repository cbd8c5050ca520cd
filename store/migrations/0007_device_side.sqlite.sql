-- The complete device side.

-- Dynamic registration: the switch of a product, tokens of devices that registered themselves.
-- 0: no device of the product may register itself; 1: those may whose names it has; 2: others, too.
ALTER TABLE product ADD COLUMN registration INTEGER NOT NULL DEFAULT 0;
-- When it was last reset, until it logs in after it has registered anew.
ALTER TABLE device ADD COLUMN reset_at INTEGER;
-- How often what it proves itself with has changed: a token of the HTTP channel names the count that it was made at.
ALTER TABLE device ADD COLUMN credentials INTEGER NOT NULL DEFAULT 0;
-- What a device that registered without pre-registration logs in with: its client id, and the SHA-256 of its token.
ALTER TABLE device ADD COLUMN token_client TEXT;
ALTER TABLE device ADD COLUMN token_hash BLOB;

-- Gateways: which devices are behind which one.
-- A device is behind at most one gateway.
CREATE TABLE topo (
  device INTEGER NOT NULL PRIMARY KEY,
  gateway INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX topo_gateway ON topo (gateway, device);

-- Products whose devices prove who they are with a certificate.
-- 1: its devices log in with certificates; 0: with their secrets.
ALTER TABLE product ADD COLUMN certified INTEGER NOT NULL DEFAULT 0;
-- The authority that makes devices' certificates (PEM), made when it is first needed; its key is sealed.
CREATE TABLE device_authority (
  id INTEGER NOT NULL PRIMARY KEY,
  certificate TEXT NOT NULL,
  key_sealed BLOB NOT NULL
) STRICT;
-- The certificates that were asked for, with their keys, sealed. A deleted device's stays, without its key.
CREATE TABLE device_certificate (
  device INTEGER NOT NULL PRIMARY KEY,
  serial TEXT NOT NULL,
  certificate TEXT NOT NULL,
  key_sealed BLOB NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX device_certificate_serial ON device_certificate (serial);

-- A device is told of one module at a time: since when it is a task's turn, and when one that waits is looked at again.
ALTER TABLE task ADD COLUMN told_at INTEGER;
ALTER TABLE task ADD COLUMN hold_until INTEGER;
