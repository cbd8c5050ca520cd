-- Instances: worlds of their own within an account. Every account has a public one, which needs no id; what was
-- an account's before belongs to its public instance, which takes the account's number here.
CREATE TABLE instance (
  id INTEGER PRIMARY KEY,
  account INTEGER NOT NULL,
  -- IotInstanceId on the wire; NULL: the account's public instance.
  instance_id TEXT,
  name TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX instance_public ON instance (account) WHERE instance_id IS NULL;
CREATE UNIQUE INDEX instance_instance_id ON instance (instance_id) WHERE instance_id IS NOT NULL;
CREATE UNIQUE INDEX instance_name ON instance (account, name);

INSERT INTO instance (id, account, instance_id, name, created_at)
  SELECT id, id, NULL, '', created_at FROM account;

ALTER TABLE product RENAME COLUMN account TO instance;
ALTER TABLE file RENAME COLUMN account TO instance;
ALTER TABLE firmware RENAME COLUMN account TO instance;
ALTER TABLE job RENAME COLUMN account TO instance;
