-- Several nodes on one database.

-- The processes that serve this database now, by the number of their start: it stands above the lower 40 bits of the
-- numbers of their logins. `beat` grows while a process lives.
CREATE TABLE serving_node (
  id INTEGER NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  roles INTEGER NOT NULL,
  beat INTEGER NOT NULL,
  version TEXT NOT NULL,
  started_at INTEGER NOT NULL
) STRICT;

-- What a node is to do about devices that are connected to it, because of what another node changed. Written with the
-- change, removed when it is read: a node that ends has no connections left, and needs none of it.
CREATE TABLE node_mail (
  id INTEGER PRIMARY KEY,
  node INTEGER NOT NULL,
  device INTEGER NOT NULL,
  body BLOB NOT NULL
) STRICT;
CREATE INDEX node_mail_node ON node_mail (node, id);

-- The moments of an account's calls of an operation within the last second, eight bytes each.
CREATE TABLE call_window (
  account INTEGER NOT NULL,
  operation TEXT NOT NULL,
  taken BLOB NOT NULL,
  PRIMARY KEY (account, operation)
) STRICT, WITHOUT ROWID;

-- Hashes of nonces that were used, until the time that they were signed with is too old.
CREATE TABLE call_nonce (
  hash INTEGER NOT NULL PRIMARY KEY,
  expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX call_nonce_expiry ON call_nonce (expires_at);
