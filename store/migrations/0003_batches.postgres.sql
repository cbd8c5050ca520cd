-- Batches in full: confirmation, retries, schedules, source versions, gray shares.
ALTER TABLE job ADD COLUMN need_confirm BIGINT NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN src_versions TEXT COLLATE "C" NOT NULL DEFAULT '[]';
ALTER TABLE job ADD COLUMN gray_percent BIGINT;
ALTER TABLE job ADD COLUMN retry_minutes BIGINT;
ALTER TABLE job ADD COLUMN retry_count BIGINT;
ALTER TABLE job ADD COLUMN schedule_at BIGINT;
ALTER TABLE job ADD COLUMN finish_at BIGINT;
-- When the batch itself must be looked at: its start or its finish time.
ALTER TABLE job ADD COLUMN due_at BIGINT;
-- 1 while the devices of a gray batch are still to be chosen.
ALTER TABLE job ADD COLUMN selecting BIGINT NOT NULL DEFAULT 0;
CREATE INDEX job_due ON job (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX job_selecting ON job (id) WHERE selecting <> 0;

-- The devices chosen for a batch of which no task exists yet.
CREATE TABLE job_target (
  job BIGINT NOT NULL,
  device BIGINT NOT NULL,
  PRIMARY KEY (job, device)
);

-- due_at stays what the timer looks at: the earliest of a slot, a retry and a time-out.
ALTER TABLE task ADD COLUMN retry_at BIGINT;
ALTER TABLE task ADD COLUMN timeout_at BIGINT;
ALTER TABLE task ADD COLUMN retries BIGINT NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN working BIGINT NOT NULL DEFAULT 0;
ALTER TABLE task ADD COLUMN confirmed BIGINT NOT NULL DEFAULT 0;
UPDATE task SET timeout_at = due_at, working = 1 WHERE status = 3;

-- The same index the other way round: also finds all batches of a device.
DROP INDEX task_device;
CREATE INDEX task_device ON task (device, job);

-- When the device's status last changed; NULL: at its registration. Of what was before only logins are known.
ALTER TABLE device ADD COLUMN status_at BIGINT;
UPDATE device SET status_at = online_at WHERE status <> 0;
