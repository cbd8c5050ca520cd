-- Files in full: several in a package, and an end for those that no package uses.
-- The name within a package of named files, and the place in it, from 0.
ALTER TABLE file ADD COLUMN name TEXT COLLATE "C";
ALTER TABLE file ADD COLUMN ordinal BIGINT NOT NULL DEFAULT 0;
-- Since when no package uses it: the ticket's time, then the upload's; NULL once a package does.
ALTER TABLE file ADD COLUMN unused_since BIGINT;
UPDATE file SET unused_since = created_at WHERE firmware IS NULL;

CREATE INDEX file_firmware ON file (firmware, ordinal) WHERE firmware IS NOT NULL;
CREATE INDEX file_unused ON file (unused_since, id) WHERE unused_since IS NOT NULL;

-- Page N of ListOTAFirmware.
CREATE INDEX firmware_instance ON firmware (instance, id);

-- From the time when a package was one file; the rows of its files say it now.
ALTER TABLE firmware DROP COLUMN sign;
ALTER TABLE firmware DROP COLUMN file;
