-- The complete control plane.

-- Batches: what they do about other batches, standing rules, groups, downloads by MQTT.
ALTER TABLE job ADD COLUMN overwrite_mode BIGINT NOT NULL DEFAULT 1;
ALTER TABLE job ADD COLUMN multi_module BIGINT NOT NULL DEFAULT 0;
-- NULL: a static batch.
ALTER TABLE job ADD COLUMN dynamic_mode BIGINT;
-- 1 while a dynamic batch takes devices in.
ALTER TABLE job ADD COLUMN policy BIGINT NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN device_group BIGINT;
ALTER TABLE job ADD COLUMN download BIGINT NOT NULL DEFAULT 0;
CREATE INDEX job_policy ON job (product, id) WHERE policy <> 0;

-- Devices of which something changed that a group or a dynamic batch may ask for. What is to be done follows from
-- what is stored when the row is looked at, so one row stands for any number of changes.
CREATE TABLE device_review (
  device BIGINT NOT NULL PRIMARY KEY
);

-- Products and their tags.

-- Devices: their tags, their end, registration in bulk.

-- Device groups.

-- Packages and modules.

-- List files.

-- Temporary keys.
-- A temporary key works with its token only, of which the hash is kept. It goes with its user.
CREATE TABLE sts_key (
  id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
  account BIGINT NOT NULL,
  -- NULL: the account itself.
  ram_user TEXT COLLATE "C",
  session_name TEXT COLLATE "C" NOT NULL,
  -- What it may do at most, whatever its user may; NULL: as much as its user.
  policy TEXT COLLATE "C",
  secret_sealed BYTEA NOT NULL,
  token_hash BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE INDEX sts_key_holder ON sts_key (account, ram_user, expires_at);
CREATE INDEX sts_key_expiry ON sts_key (expires_at);
