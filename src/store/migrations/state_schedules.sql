-- Frozen: a database in the field has run it. Changes are new files.

-- body: of one that was added while the gateway ran; NULL: the configuration has it. timing: what mark and ran belong to.
-- mark: everything up to it has been dealt with; ran: the latest that was run. Both are seconds since 1970 of UTC.
CREATE TABLE schedule (
  id TEXT PRIMARY KEY,
  body TEXT,
  timing TEXT NOT NULL,
  enabled INTEGER NOT NULL,
  by_whom TEXT NOT NULL,
  mark INTEGER,
  ran INTEGER,
  wall_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- The last runs, a row for each of their commands, with what came of it.
CREATE TABLE schedule_run (
  id INTEGER PRIMARY KEY,
  schedule TEXT NOT NULL,
  at INTEGER NOT NULL,
  wall_ms INTEGER NOT NULL,
  command TEXT NOT NULL UNIQUE,
  device TEXT NOT NULL,
  phase TEXT,
  reason TEXT
);
CREATE INDEX schedule_run_of ON schedule_run (schedule, id);
