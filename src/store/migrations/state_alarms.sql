-- Frozen: a database in the field has run it. Changes are new files.

-- Alarms of rules beside those of devices; who has seen one.
ALTER TABLE alarm ADD COLUMN rule TEXT NOT NULL DEFAULT '';
ALTER TABLE alarm ADD COLUMN point TEXT;
ALTER TABLE alarm ADD COLUMN severity TEXT;
ALTER TABLE alarm ADD COLUMN seen_by TEXT;
ALTER TABLE alarm ADD COLUMN seen_boot INTEGER;
ALTER TABLE alarm ADD COLUMN seen_at INTEGER;
ALTER TABLE alarm ADD COLUMN seen_wall_ms INTEGER;

-- What a rule must remember to fire once for one cause.
CREATE TABLE rule (
  id TEXT PRIMARY KEY,
  condition TEXT NOT NULL,
  fired INTEGER NOT NULL,
  boot INTEGER NOT NULL,
  fired_at INTEGER,
  held INTEGER NOT NULL,
  off TEXT,
  count INTEGER NOT NULL,
  wall_ms INTEGER NOT NULL
) WITHOUT ROWID;
