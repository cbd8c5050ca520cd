-- The complete control plane.

-- Batches: what they do about other batches, standing rules, groups, downloads by MQTT.
ALTER TABLE job ADD COLUMN overwrite_mode INTEGER NOT NULL DEFAULT 1;
ALTER TABLE job ADD COLUMN multi_module INTEGER NOT NULL DEFAULT 0;
-- NULL: a static batch.
ALTER TABLE job ADD COLUMN dynamic_mode INTEGER;
-- 1 while a dynamic batch takes devices in.
ALTER TABLE job ADD COLUMN policy INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN device_group INTEGER;
ALTER TABLE job ADD COLUMN download INTEGER NOT NULL DEFAULT 0;
CREATE INDEX job_policy ON job (product, id) WHERE policy <> 0;
-- What held for the tasks that a batch had before it was changed: [last ordinal, time-out, source versions], …
ALTER TABLE job ADD COLUMN former_terms TEXT NOT NULL DEFAULT '[]';
-- The rate was changed: queued tasks after this ordinal are to get other slots.
ALTER TABLE job ADD COLUMN repace_after INTEGER;
CREATE INDEX job_repacing ON job (id) WHERE repace_after IS NOT NULL;

-- Devices of which something changed that a group or a dynamic batch may ask for. What is to be done follows from
-- what is stored when the row is looked at, so one row stands for any number of changes.
CREATE TABLE device_review (
  device INTEGER NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Products and their tags.
ALTER TABLE product ADD COLUMN protocol_type TEXT;
ALTER TABLE product ADD COLUMN category_key TEXT;
ALTER TABLE product ADD COLUMN validate_type INTEGER NOT NULL DEFAULT 1;
-- A deleted product is found no more; its row stays for the batches that it had. Its name is free again, its key is not.
ALTER TABLE product ADD COLUMN deleted_at INTEGER;
DROP INDEX product_name;
CREATE UNIQUE INDEX product_name ON product (instance, name) WHERE deleted_at IS NULL;
CREATE INDEX product_instance ON product (instance, id) WHERE deleted_at IS NULL;

CREATE TABLE product_tag (
  instance INTEGER NOT NULL,
  product INTEGER NOT NULL,
  tag_key TEXT NOT NULL,
  tag_value TEXT NOT NULL,
  PRIMARY KEY (product, tag_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX product_tag_value ON product_tag (instance, tag_key, tag_value, product);

-- Devices: their tags, their end, registration in bulk.
CREATE TABLE device_tag (
  instance INTEGER NOT NULL,
  device INTEGER NOT NULL,
  tag_key TEXT NOT NULL,
  tag_value TEXT NOT NULL,
  PRIMARY KEY (device, tag_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_tag_value ON device_tag (instance, tag_key, tag_value, device);
-- 1: it may not connect. Presence stays beside it, for the day it is enabled again.
ALTER TABLE device ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;
-- A deleted device's row stays for the lists of tasks, without its secret.
ALTER TABLE device ADD COLUMN deleted_at INTEGER;
-- When it last registered itself, by dynamic registration.
ALTER TABLE device ADD COLUMN registered_at INTEGER;
DROP INDEX device_name;
CREATE UNIQUE INDEX device_name ON device (product, name) WHERE deleted_at IS NULL;
-- Lists pass no deleted device, however many there were.
DROP INDEX device_product;
CREATE INDEX device_product ON device (product, id) WHERE deleted_at IS NULL;
-- A login tells a deleted device from one that never was.
CREATE INDEX device_deleted ON device (product, name) WHERE deleted_at IS NOT NULL;
-- Statistics count in these two and look at no device: SQLite wants the columns of the conditions in them for that.
CREATE INDEX device_active ON device (product, id, active_at, deleted_at)
  WHERE active_at IS NOT NULL AND deleted_at IS NULL;
DROP INDEX device_online;
CREATE INDEX device_online ON device (product, id, status) WHERE status = 1;
-- A registration of devices in bulk. 0 check, 1 create: the engine works at it; 6: it is to be forgotten.
CREATE TABLE device_apply (
  id INTEGER PRIMARY KEY,
  product INTEGER NOT NULL,
  apply_id INTEGER NOT NULL,
  status INTEGER NOT NULL,
  -- 1: devices are wanted, not only the check of their names.
  wanted INTEGER NOT NULL,
  -- The last name dealt with, names with a problem, devices that exist.
  done INTEGER NOT NULL,
  bad INTEGER NOT NULL,
  made INTEGER NOT NULL,
  changed_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX device_apply_apply_id ON device_apply (apply_id);
CREATE INDEX device_apply_work ON device_apply (id) WHERE status < 2;
CREATE INDEX device_apply_product ON device_apply (product, status, id);
CREATE INDEX device_apply_forgotten ON device_apply (id) WHERE status = 6;
CREATE INDEX device_apply_changed ON device_apply (changed_at);
CREATE TABLE device_apply_name (
  apply INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  name TEXT NOT NULL,
  nickname TEXT,
  -- 0: none.
  problem INTEGER NOT NULL,
  -- What was made of it.
  device INTEGER,
  PRIMARY KEY (apply, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_apply_name_device ON device_apply_name (device) WHERE device IS NOT NULL;

-- Device groups.
-- Members of a deleted group go in chunks; its row stays for the batches that name it.
CREATE TABLE device_group (
  id INTEGER PRIMARY KEY,
  instance INTEGER NOT NULL,
  group_id TEXT NOT NULL,
  name TEXT NOT NULL,
  description TEXT,
  -- Static groups: the group that this one is in, and how many are above it.
  parent INTEGER,
  depth INTEGER NOT NULL,
  -- NULL: a static group.
  expression TEXT,
  -- 1 for a dynamic group that is not deleted; the next two say what its expression asks for.
  dynamic INTEGER NOT NULL,
  asks_status INTEGER NOT NULL,
  asks_version INTEGER NOT NULL,
  device_count INTEGER NOT NULL,
  -- What the engine still has to do: 0 nothing, 1 look at every device, 2 forget every member.
  work INTEGER NOT NULL,
  -- The last device looked at, and the last one to look at.
  work_after INTEGER NOT NULL,
  work_upto INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  deleted_at INTEGER
) STRICT;
CREATE UNIQUE INDEX device_group_group_id ON device_group (group_id);
CREATE UNIQUE INDEX device_group_name ON device_group (instance, name) WHERE deleted_at IS NULL;
CREATE INDEX device_group_list ON device_group (instance, dynamic, id) WHERE deleted_at IS NULL;
CREATE INDEX device_group_parent ON device_group (parent, id) WHERE deleted_at IS NULL;
CREATE INDEX device_group_work ON device_group (id) WHERE work <> 0;
-- Asked by each group of logins and of version reports, and usually empty.
CREATE INDEX device_group_asks_status ON device_group (instance) WHERE asks_status <> 0;
CREATE INDEX device_group_asks_version ON device_group (instance) WHERE asks_version <> 0;
CREATE INDEX device_group_dynamic ON device_group (instance) WHERE dynamic <> 0;

CREATE TABLE group_member (
  device_group INTEGER NOT NULL,
  device INTEGER NOT NULL,
  PRIMARY KEY (device_group, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX group_member_device ON group_member (device, device_group);
-- Whether a running dynamic batch asks for a group.
CREATE INDEX job_policy_group ON job (device_group) WHERE policy <> 0;

-- Packages and modules.
-- 0 full, 1 differential: only for devices that run src_version.
ALTER TABLE firmware ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;
ALTER TABLE firmware ADD COLUMN src_version TEXT;
-- A deleted package is found no more; its row stays for the batches that it had. Its name is free again.
ALTER TABLE firmware ADD COLUMN deleted_at INTEGER;
-- 1 from the deletion until its files are removed.
ALTER TABLE firmware ADD COLUMN purge INTEGER NOT NULL DEFAULT 0;
DROP INDEX firmware_name;
CREATE UNIQUE INDEX firmware_name ON firmware (instance, name) WHERE deleted_at IS NULL;
DROP INDEX firmware_instance;
CREATE INDEX firmware_instance ON firmware (instance, id) WHERE deleted_at IS NULL;
CREATE INDEX firmware_module ON firmware (product, module) WHERE deleted_at IS NULL;
CREATE INDEX firmware_purge ON firmware (id) WHERE purge <> 0;
-- The batches that a package's deletion stops: those that have not ended, and dynamic ones, whose tasks outlive them.
CREATE INDEX job_open ON job (firmware, id) WHERE status < 2;
CREATE INDEX job_dynamic ON job (firmware, id) WHERE dynamic_mode IS NOT NULL;

-- The modules of a product, without `default`, which every product has. Names are unique ignoring case.
CREATE TABLE product_module (
  product INTEGER NOT NULL,
  name TEXT NOT NULL,
  name_folded TEXT NOT NULL,
  alias_name TEXT,
  description TEXT,
  created_at INTEGER NOT NULL,
  modified_at INTEGER NOT NULL,
  PRIMARY KEY (product, name_folded)
) STRICT, WITHOUT ROWID;

-- List files.
-- The devices of a batch by list file of which no task exists yet: sorted numbers, in packed parts that the engine
-- makes tasks of one after the other.
CREATE TABLE job_list (
  job INTEGER NOT NULL,
  part INTEGER NOT NULL,
  devices BLOB NOT NULL,
  PRIMARY KEY (job, part)
) STRICT, WITHOUT ROWID;

-- Temporary keys.
-- A temporary key works with its token only, of which the hash is kept. It goes with its user.
CREATE TABLE sts_key (
  id TEXT NOT NULL PRIMARY KEY,
  account INTEGER NOT NULL,
  -- NULL: the account itself.
  ram_user TEXT,
  session_name TEXT NOT NULL,
  -- What it may do at most, whatever its user may; NULL: as much as its user.
  policy TEXT,
  secret_sealed BLOB NOT NULL,
  token_hash BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sts_key_holder ON sts_key (account, ram_user, expires_at);
CREATE INDEX sts_key_expiry ON sts_key (expires_at);
