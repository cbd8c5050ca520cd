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
