-- What a consumer keeps of its gateways. Times are milliseconds since 1970-01-01T00:00:00Z. docs/consumer.md explains it.

-- One epoch of one gateway and stream. Numbers count from 1 in each.
CREATE TABLE sequence (
  id          INTEGER PRIMARY KEY,
  gateway     TEXT    NOT NULL,
  epoch       TEXT    NOT NULL,
  stream      TEXT    NOT NULL,
  joined      INTEGER NOT NULL,            -- 1: this consumer came in the middle of it
  messages    INTEGER NOT NULL DEFAULT 0,
  samples     INTEGER NOT NULL DEFAULT 0,
  resent      INTEGER NOT NULL DEFAULT 0,
  conflicting INTEGER NOT NULL DEFAULT 0,
  UNIQUE (gateway, epoch, stream)
);

-- The numbers that came, as ranges. Stays when old messages are deleted, so that what comes again stays known.
CREATE TABLE received (
  sequence INTEGER NOT NULL REFERENCES sequence,
  first    INTEGER NOT NULL,
  last     INTEGER NOT NULL,
  PRIMARY KEY (sequence, first)
) WITHOUT ROWID;

-- One row per key (gateway, epoch, stream, seq).
CREATE TABLE message (
  id          INTEGER PRIMARY KEY,
  sequence    INTEGER NOT NULL REFERENCES sequence,
  seq         INTEGER NOT NULL,
  content     INTEGER NOT NULL,            -- hash of what every sending has in common
  samples     INTEGER NOT NULL,
  backlog     INTEGER NOT NULL,
  boot        INTEGER NOT NULL,
  offset_ms   INTEGER NOT NULL,            -- boot clock to wall time, as the times are stored now
  estimated   INTEGER NOT NULL,
  received_at INTEGER NOT NULL,
  UNIQUE (sequence, seq)
);

CREATE TABLE series (
  id      INTEGER PRIMARY KEY,
  gateway TEXT NOT NULL,
  device  TEXT NOT NULL,
  point   TEXT NOT NULL,
  UNIQUE (gateway, device, point)
);

CREATE TABLE sample (
  series    INTEGER NOT NULL REFERENCES series,
  at        INTEGER NOT NULL,
  message   INTEGER NOT NULL,
  row       INTEGER NOT NULL,              -- counts the rows of a message
  value,                                   -- number, text, 0 or 1; NULL with a quality
  quality   TEXT,                          -- NULL: good
  estimated INTEGER,                       -- 1: the time may still be corrected
  PRIMARY KEY (series, at, message, row)
) WITHOUT ROWID;
CREATE INDEX sample_estimated ON sample (message) WHERE estimated = 1;
CREATE INDEX message_estimated ON message (boot) WHERE estimated = 1;

-- What happened, except progress. `n` is the place in its message; `body` is the event as it came.
CREATE TABLE event (
  id      INTEGER PRIMARY KEY,
  message INTEGER NOT NULL,
  n       INTEGER NOT NULL,
  gateway TEXT    NOT NULL,
  epoch   TEXT    NOT NULL,
  seq     INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  type    TEXT    NOT NULL,
  device  TEXT,
  body    TEXT    NOT NULL,
  UNIQUE (message, n)
);
CREATE INDEX event_type ON event (type, gateway);

-- Numbers that will never come.
CREATE TABLE gap (
  gateway        TEXT    NOT NULL,
  epoch          TEXT    NOT NULL,
  stream         TEXT    NOT NULL,
  first          INTEGER NOT NULL,
  last           INTEGER NOT NULL,
  samples        INTEGER NOT NULL,
  reason         TEXT    NOT NULL,
  replaced_epoch TEXT,
  replaced_first INTEGER,
  replaced_last  INTEGER,
  at             INTEGER NOT NULL
);

-- What a gateway said last about the numbers that are still alive.
CREATE TABLE progress (
  gateway    TEXT    NOT NULL,
  said_epoch TEXT    NOT NULL,
  said_seq   INTEGER NOT NULL,
  epoch      TEXT    NOT NULL,
  stream     TEXT    NOT NULL,
  lowest     INTEGER NOT NULL,
  highest    INTEGER NOT NULL
);
CREATE INDEX progress_gateway ON progress (gateway);

-- The last that is known about the clock of each boot.
CREATE TABLE clock (
  gateway      TEXT    NOT NULL,
  boot         INTEGER NOT NULL,
  offset_ms    INTEGER NOT NULL,
  synchronised INTEGER NOT NULL,
  PRIMARY KEY (gateway, boot)
) WITHOUT ROWID;

-- A key that came again with another content.
CREATE TABLE conflict (
  gateway TEXT NOT NULL, epoch TEXT NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL,
  received_at INTEGER NOT NULL, body TEXT NOT NULL
);

-- No message of this dialect.
CREATE TABLE rejected (
  id INTEGER PRIMARY KEY, topic TEXT NOT NULL, reason TEXT NOT NULL, received_at INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE TABLE counter (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;

-- The newest retained message of each topic: state and device lists.
CREATE TABLE retained (topic TEXT PRIMARY KEY, received_at INTEGER NOT NULL, body TEXT NOT NULL) WITHOUT ROWID;

CREATE VIEW samples AS
  SELECT s.gateway, s.device, s.point, v.at, strftime('%Y-%m-%dT%H:%M:%fZ', v.at / 1000.0, 'unixepoch') AS time,
         v.value, coalesce(v.quality, 'good') AS quality, coalesce(v.estimated, 0) AS estimated, v.message
  FROM sample v JOIN series s ON s.id = v.series;

CREATE VIEW messages AS
  SELECT q.gateway, q.epoch, q.stream, m.seq, m.samples, m.backlog, m.boot, m.offset_ms, m.estimated, m.received_at, m.id
  FROM message m JOIN sequence q ON q.id = m.sequence;
