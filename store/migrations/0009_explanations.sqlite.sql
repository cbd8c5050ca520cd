-- What a device said that belongs to no task: one row for each reason, however often.

CREATE TABLE device_refusal (
  device INTEGER NOT NULL,
  event TEXT NOT NULL,
  why TEXT NOT NULL,
  -- The module that it was about the last time.
  module TEXT NOT NULL,
  n INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  PRIMARY KEY (device, event, why)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_refusal_last ON device_refusal (last_at);

-- The running batches of a product, newest first.
CREATE INDEX job_running ON job (product, id) WHERE status < 2;
