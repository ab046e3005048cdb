-- Which log this is, for ever, and which steps were applied.
CREATE TABLE es_log_meta (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  log_id BLOB NOT NULL,
  schema_rev INTEGER NOT NULL
) STRICT;
INSERT INTO es_log_meta VALUES (1, randomblob(16), 1);

CREATE TABLE es_event (
  pos INTEGER PRIMARY KEY,                -- dense, in commit order
  version INTEGER NOT NULL,               -- dense in its stream
  recorded_at INTEGER NOT NULL,           -- microseconds since 1970, never before that of pos - 1
  append_hash INTEGER,                    -- on the first event of an append: what a repeat is compared with
  event_id BLOB NOT NULL,
  corr BLOB,
  caus BLOB,
  schema_version INTEGER NOT NULL DEFAULT 1,
  codec INTEGER NOT NULL DEFAULT 1,       -- 1 json
  stream_id TEXT NOT NULL,
  type TEXT NOT NULL,
  topic TEXT,                             -- where the relay publishes it; null = internal
  key TEXT,
  payload BLOB NOT NULL,
  meta BLOB                               -- headers, as a JSON object
) STRICT;
CREATE UNIQUE INDEX es_event_stream_version ON es_event (stream_id, version);
CREATE UNIQUE INDEX es_event_id ON es_event (event_id);
CREATE INDEX es_event_published ON es_event (pos) WHERE topic IS NOT NULL;

-- Only streams that are not plainly open. A change of it is an event too.
CREATE TABLE es_stream (
  stream_id TEXT PRIMARY KEY,
  truncate_before INTEGER NOT NULL DEFAULT 0,
  state INTEGER NOT NULL DEFAULT 0        -- 0 open, 1 archived, 2 tombstoned
) STRICT, WITHOUT ROWID;

-- Who has read how far. event_id is that at pos: a log that lost its tail is told by it.
CREATE TABLE es_checkpoint (
  name TEXT NOT NULL,
  shard INTEGER NOT NULL DEFAULT 0,
  pos INTEGER NOT NULL DEFAULT 0,
  event_id BLOB,
  timeline TEXT,
  owner BLOB,
  fence INTEGER NOT NULL DEFAULT 0,       -- a fenced write compares owner and fence
  lease_until INTEGER,                    -- microseconds since 1970
  PRIMARY KEY (name, shard)
) STRICT, WITHOUT ROWID;

-- The last 64 checkpoints of each consumer: where two histories still were one.
CREATE TABLE es_anchor (
  name TEXT NOT NULL,
  shard INTEGER NOT NULL,
  pos INTEGER NOT NULL,
  event_id BLOB NOT NULL,
  PRIMARY KEY (name, shard, pos)
) STRICT, WITHOUT ROWID;

CREATE TABLE es_parked (
  name TEXT NOT NULL,
  stream_id TEXT NOT NULL,
  pos INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  error TEXT NOT NULL,
  parked_at INTEGER NOT NULL,
  PRIMARY KEY (name, pos)
) STRICT, WITHOUT ROWID;

CREATE TABLE es_timer (
  name TEXT NOT NULL,
  shard INTEGER NOT NULL,
  id TEXT NOT NULL,
  due_at INTEGER NOT NULL,                -- microseconds since 1970
  payload BLOB NOT NULL,
  PRIMARY KEY (name, shard, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX es_timer_due ON es_timer (name, shard, due_at);

-- Who works on which subscription, and wants its part of the shards.
CREATE TABLE es_member (
  name TEXT NOT NULL,
  process BLOB NOT NULL,
  about BLOB,                             -- what it says of itself, as JSON
  lease_until INTEGER NOT NULL,           -- microseconds since 1970
  PRIMARY KEY (name, process)
) STRICT, WITHOUT ROWID;

CREATE TABLE es_snapshot (
  kind TEXT NOT NULL,
  stream_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  schema_version INTEGER NOT NULL,
  payload BLOB NOT NULL,
  PRIMARY KEY (kind, stream_id)
) STRICT;
