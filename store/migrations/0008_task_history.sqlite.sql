-- What happened to tasks: each change of a state, and what was refused.

CREATE TABLE task_history (
  id INTEGER PRIMARY KEY,
  job INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  -- The task's revision after the change.
  revision INTEGER NOT NULL,
  at INTEGER NOT NULL,
  what INTEGER NOT NULL,
  from_status INTEGER NOT NULL,
  to_status INTEGER NOT NULL,
  detail TEXT
) STRICT;
CREATE INDEX task_history_task ON task_history (job, ordinal, id);

-- One row for each reason, however often: a device that repeats itself takes no room.
CREATE TABLE task_refusal (
  job INTEGER NOT NULL,
  ordinal INTEGER NOT NULL,
  event TEXT NOT NULL,
  why TEXT NOT NULL,
  n INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  PRIMARY KEY (job, ordinal, event, why)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_refusal_last ON task_refusal (last_at);
