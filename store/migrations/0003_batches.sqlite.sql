-- Batches in full: confirmation, retries, schedules, source versions, gray shares.
ALTER TABLE job ADD COLUMN need_confirm INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN src_versions TEXT NOT NULL DEFAULT '[]';
ALTER TABLE job ADD COLUMN gray_percent INTEGER;
ALTER TABLE job ADD COLUMN retry_minutes INTEGER;
ALTER TABLE job ADD COLUMN retry_count INTEGER;
ALTER TABLE job ADD COLUMN schedule_at INTEGER;
ALTER TABLE job ADD COLUMN finish_at INTEGER;
-- When the batch itself must be looked at: its start or its finish time.
ALTER TABLE job ADD COLUMN due_at INTEGER;
-- 1 while the devices of a gray batch are still to be chosen.
ALTER TABLE job ADD COLUMN selecting INTEGER NOT NULL DEFAULT 0;
CREATE INDEX job_due ON job (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX job_selecting ON job (id) WHERE selecting <> 0;

-- The devices chosen for a batch of which no task exists yet.
CREATE TABLE job_target (
  job INTEGER NOT NULL,
  device INTEGER NOT NULL,
  PRIMARY KEY (job, device)
) STRICT, WITHOUT ROWID;

-- due_at stays what the timer looks at: the earliest of a slot, a retry and a time-out.
ALTER TABLE task ADD COLUMN retry_at INTEGER;
ALTER TABLE task ADD COLUMN timeout_at INTEGER;
ALTER TABLE task ADD COLUMN retries INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN working INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN confirmed INTEGER NOT NULL DEFAULT 0;
UPDATE task SET timeout_at = due_at, working = 1 WHERE status = 3;

-- The same index the other way round: also finds all batches of a device.
DROP INDEX task_device;
CREATE INDEX task_device ON task (device, job);

-- When the device's status last changed; NULL: at its registration. Of what was before only logins are known.
ALTER TABLE device ADD COLUMN status_at INTEGER;
UPDATE device SET status_at = online_at WHERE status <> 0;
