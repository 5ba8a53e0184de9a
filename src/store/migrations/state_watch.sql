-- Frozen: a database in the field has run it. Changes are new files.

-- From when to when a run looked, on its boot's clock: what lies between two runs was seen by nobody. Rows of an older
-- version have neither.
ALTER TABLE epoch ADD COLUMN began INTEGER;
ALTER TABLE epoch ADD COLUMN seen INTEGER;

-- One row from raised to cleared.
CREATE TABLE alarm (
  id INTEGER PRIMARY KEY,
  device TEXT NOT NULL,
  kind TEXT NOT NULL,
  boot INTEGER NOT NULL,
  at INTEGER NOT NULL,
  wall_ms INTEGER NOT NULL,
  reason TEXT NOT NULL,
  cleared_boot INTEGER,
  cleared_at INTEGER,
  cleared_wall_ms INTEGER
);
CREATE INDEX alarm_open ON alarm (device, kind) WHERE cleared_at IS NULL;

-- Devices that are not judged at present.
CREATE TABLE maintenance (
  device TEXT PRIMARY KEY,
  by_whom TEXT NOT NULL,
  reason TEXT NOT NULL,
  boot INTEGER NOT NULL,
  since INTEGER NOT NULL,
  until INTEGER,
  wall_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- What devices said of themselves last.
CREATE TABLE attribute (
  id INTEGER PRIMARY KEY,
  device TEXT NOT NULL,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  boot INTEGER NOT NULL,
  at INTEGER NOT NULL,
  wall_ms INTEGER NOT NULL,
  UNIQUE (device, name)
);
