-- What a device said that belongs to no task: one row for each reason, however often.

CREATE TABLE device_refusal (
  device BIGINT NOT NULL,
  event TEXT COLLATE "C" NOT NULL,
  why TEXT COLLATE "C" NOT NULL,
  -- The module that it was about the last time.
  module TEXT COLLATE "C" NOT NULL,
  n BIGINT NOT NULL,
  first_at BIGINT NOT NULL,
  last_at BIGINT NOT NULL,
  PRIMARY KEY (device, event, why)
);
CREATE INDEX device_refusal_last ON device_refusal (last_at);

-- The running batches of a product, newest first.
CREATE INDEX job_running ON job (product, id) WHERE status < 2;
