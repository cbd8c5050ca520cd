-- RAM users with their policies, and the audit log.
CREATE TABLE ram_user (
  account INTEGER NOT NULL,
  name TEXT NOT NULL,
  -- The policy document as it was given; NULL: the user may do everything.
  policy TEXT,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (account, name)
) STRICT, WITHOUT ROWID;
INSERT INTO ram_user (account, name, policy, created_at)
  SELECT account, ram_user, NULL, MIN(created_at) FROM access_key WHERE ram_user IS NOT NULL
  GROUP BY account, ram_user;
CREATE INDEX access_key_holder ON access_key (account, ram_user);

-- Who changed what, or tried to. Names, not numbers: a line outlives what it tells of. No index but the key:
-- every change of an account pays for one, and reading is rare.
CREATE TABLE audit (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  account TEXT NOT NULL,
  instance TEXT NOT NULL,
  ram_user TEXT,
  access_key TEXT,
  os_user TEXT,
  action TEXT NOT NULL,
  request_id TEXT,
  outcome TEXT NOT NULL,
  subject TEXT NOT NULL
) STRICT;
