-- The first slice: accounts, products, devices, files, packages, batches, tasks.
-- Times are milliseconds since the epoch; booleans are 0 and 1; *_sealed columns are encrypted.
-- The processes that serve this database; `starts` counts theirs, so that logins are numbered upwards even
-- if the clock is set back.
CREATE TABLE node (
  id INTEGER NOT NULL PRIMARY KEY,
  starts INTEGER NOT NULL
) STRICT;

-- What ties the database to its data folder and master key: an id, sealed.
CREATE TABLE installation (
  id INTEGER NOT NULL PRIMARY KEY,
  name_sealed BLOB NOT NULL
) STRICT;

CREATE TABLE account (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX account_name ON account (name);

CREATE TABLE access_key (
  id TEXT NOT NULL PRIMARY KEY,
  account INTEGER NOT NULL,
  ram_user TEXT,
  secret_sealed BLOB NOT NULL,
  enabled INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE product (
  id INTEGER PRIMARY KEY,
  account INTEGER NOT NULL,
  product_key TEXT NOT NULL,
  name TEXT NOT NULL,
  secret_sealed BLOB NOT NULL,
  node_type INTEGER NOT NULL,
  data_format INTEGER NOT NULL,
  net_type TEXT NOT NULL,
  commodity_code TEXT NOT NULL,
  description TEXT,
  device_count INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX product_product_key ON product (product_key);
CREATE UNIQUE INDEX product_name ON product (account, name);

CREATE TABLE device (
  id INTEGER PRIMARY KEY,
  product INTEGER NOT NULL,
  name TEXT NOT NULL,
  iot_id TEXT NOT NULL,
  secret_sealed BLOB NOT NULL,
  nickname TEXT,
  status INTEGER NOT NULL,
  session INTEGER NOT NULL,
  ip TEXT,
  created_at INTEGER NOT NULL,
  active_at INTEGER,
  online_at INTEGER
) STRICT;
CREATE UNIQUE INDEX device_name ON device (product, name);
CREATE UNIQUE INDEX device_iot_id ON device (iot_id);
-- Expansion of a batch walks a product's devices in id order.
CREATE INDEX device_product ON device (product, id);
-- After a crash every device that was online is not.
CREATE INDEX device_online ON device (id) WHERE status = 1;

CREATE TABLE device_version (
  device INTEGER NOT NULL,
  module TEXT NOT NULL,
  version TEXT NOT NULL,
  reported_at INTEGER NOT NULL,
  PRIMARY KEY (device, module)
) STRICT, WITHOUT ROWID;

CREATE TABLE file (
  id INTEGER PRIMARY KEY,
  account INTEGER NOT NULL,
  object_key TEXT NOT NULL,
  blob TEXT,
  size INTEGER,
  md5 TEXT,
  sha256 TEXT,
  firmware INTEGER,
  created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX file_object_key ON file (object_key);
CREATE INDEX file_blob ON file (blob) WHERE blob IS NOT NULL;

CREATE TABLE firmware (
  id INTEGER PRIMARY KEY,
  account INTEGER NOT NULL,
  product INTEGER NOT NULL,
  firmware_id TEXT NOT NULL,
  name TEXT NOT NULL,
  description TEXT,
  dest_version TEXT NOT NULL,
  module TEXT NOT NULL,
  status INTEGER NOT NULL,
  sign_method INTEGER NOT NULL,
  sign TEXT NOT NULL,
  size INTEGER NOT NULL,
  file INTEGER NOT NULL,
  udi TEXT,
  verify_job INTEGER,
  job_count INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  modified_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX firmware_firmware_id ON firmware (firmware_id);
CREATE UNIQUE INDEX firmware_name ON firmware (account, name);

CREATE TABLE job (
  id INTEGER PRIMARY KEY,
  account INTEGER NOT NULL,
  job_id TEXT NOT NULL,
  firmware INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  product INTEGER NOT NULL,
  job_type INTEGER NOT NULL,
  status INTEGER NOT NULL,
  target_selection INTEGER NOT NULL,
  need_push INTEGER NOT NULL,
  per_minute INTEGER,
  timeout_minutes INTEGER,
  tags TEXT NOT NULL,
  pace_next_us INTEGER NOT NULL,
  expanded INTEGER NOT NULL,
  expand_after INTEGER NOT NULL,
  expand_upto INTEGER NOT NULL,
  task_count INTEGER NOT NULL,
  cancel_mask INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  modified_at INTEGER NOT NULL,
  start_at INTEGER,
  end_at INTEGER
) STRICT;
CREATE UNIQUE INDEX job_job_id ON job (job_id);
-- Ordinals are gapless within a package: page N of ListOTAJobByFirmware is a range of this index.
CREATE UNIQUE INDEX job_ordinal ON job (firmware, ordinal);
CREATE INDEX job_unexpanded ON job (id) WHERE expanded = 0;
CREATE INDEX job_canceling ON job (id) WHERE cancel_mask <> 0;

CREATE TABLE job_count (
  job INTEGER NOT NULL,
  status INTEGER NOT NULL,
  node INTEGER NOT NULL,
  n INTEGER NOT NULL,
  PRIMARY KEY (job, status, node)
) STRICT, WITHOUT ROWID;

-- Ordinals are gapless within a batch: page N of ListOTATaskByJob is a range of the primary key.
CREATE TABLE task (
  job INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  device INTEGER NOT NULL,
  status INTEGER NOT NULL,
  src_version TEXT,
  progress INTEGER NOT NULL,
  description TEXT,
  due_at INTEGER,
  revision INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  modified_at INTEGER NOT NULL,
  PRIMARY KEY (job, ordinal)
) STRICT, WITHOUT ROWID;
-- Open tasks of a device: what it is to be told, and whether it is busy.
CREATE INDEX task_open ON task (device) WHERE status < 4;
-- Slots and time-outs.
CREATE INDEX task_due ON task (due_at) WHERE due_at IS NOT NULL;
-- Lists filtered by status, and cancellation.
CREATE INDEX task_status ON task (job, status, ordinal);
-- A device's task within a batch.
CREATE INDEX task_device ON task (job, device);
