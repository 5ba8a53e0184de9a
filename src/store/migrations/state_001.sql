-- Frozen: a database in the field has run it. Changes are new files.
-- Moments are microseconds of a boot's own clock; wall_ms is for people and never orders or expires anything.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE boot (id INTEGER PRIMARY KEY, uuid TEXT NOT NULL, offset_ms INTEGER NOT NULL, synchronised INTEGER NOT NULL);

-- One row per process run. The numbers are those at the end, if it was clean.
CREATE TABLE epoch (
  id INTEGER PRIMARY KEY,
  epoch INTEGER NOT NULL UNIQUE,
  boot INTEGER NOT NULL,
  window_ms INTEGER NOT NULL,
  telemetry INTEGER NOT NULL DEFAULT 0,
  event INTEGER NOT NULL DEFAULT 0,
  clean INTEGER NOT NULL DEFAULT 0
);

-- One row per message of the event stream, gone some time after its acknowledgement.
CREATE TABLE event (
  id INTEGER PRIMARY KEY,
  epoch INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  boot INTEGER NOT NULL,
  events INTEGER NOT NULL,
  minor INTEGER NOT NULL,
  body TEXT NOT NULL
);

CREATE TABLE device (
  id TEXT PRIMARY KEY,
  line TEXT,
  state TEXT NOT NULL,
  cause TEXT,
  boot INTEGER NOT NULL,
  since INTEGER NOT NULL,
  evidence TEXT,
  evidence_at INTEGER,
  missed INTEGER NOT NULL,
  via TEXT,
  offline_after_ms INTEGER,
  quarantined INTEGER NOT NULL DEFAULT 0,
  wall_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE status_history (
  id INTEGER PRIMARY KEY,
  device TEXT NOT NULL,
  boot INTEGER NOT NULL,
  at INTEGER NOT NULL,
  wall_ms INTEGER NOT NULL,
  state TEXT NOT NULL,
  cause TEXT,
  evidence TEXT,
  evidence_at INTEGER,
  missed INTEGER NOT NULL
);
CREATE INDEX status_history_device ON status_history (device, id);

CREATE TABLE command (
  n INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  source TEXT NOT NULL,
  device TEXT NOT NULL,
  boot INTEGER NOT NULL,
  received INTEGER NOT NULL,
  wall_ms INTEGER NOT NULL,
  phase TEXT NOT NULL,
  body TEXT NOT NULL,
  outcome TEXT,
  ended_wall_ms INTEGER
);
CREATE INDEX command_open ON command (n) WHERE outcome IS NULL;

CREATE TABLE dead_letter (
  id INTEGER PRIMARY KEY,
  boot INTEGER NOT NULL,
  at INTEGER NOT NULL,
  wall_ms INTEGER NOT NULL,
  source TEXT NOT NULL,
  topic TEXT NOT NULL,
  reason TEXT NOT NULL,
  body BLOB NOT NULL
);
