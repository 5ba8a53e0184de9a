-- Frozen: a database in the field has run it. Changes are new files.
-- Readable without state.db: it holds its own boots and its own dictionary.

CREATE TABLE boot (id INTEGER PRIMARY KEY, uuid TEXT NOT NULL, offset_ms INTEGER NOT NULL, quality INTEGER NOT NULL);

-- Only grows: segments name their series by these ids.
CREATE TABLE series (id INTEGER PRIMARY KEY, device TEXT NOT NULL, point TEXT NOT NULL);

-- A ring: slots of delivered segments are overwritten. n counts writes. at and boot: when its oldest batch was sealed.
CREATE TABLE segment (
  slot INTEGER PRIMARY KEY,
  n INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  boot INTEGER NOT NULL,
  at INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  batches INTEGER NOT NULL,
  samples INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  body BLOB NOT NULL
);

-- One row. head: the next n. epoch, telemetry: the newest number known to be durable or acknowledged.
-- alive: which n are not delivered, and what of them is; see ring.rs.
CREATE TABLE meta (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  file INTEGER NOT NULL,
  head INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  telemetry INTEGER NOT NULL,
  alive BLOB NOT NULL
);
