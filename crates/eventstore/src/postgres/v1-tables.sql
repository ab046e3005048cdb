-- A log's tables: one schema is one log. PostgreSQL 15 or later, encoding UTF8.
-- Run as the schema's owner. Another role that works on the log needs:
--   GRANT USAGE ON SCHEMA es; GRANT SELECT ON ALL TABLES IN SCHEMA es; GRANT INSERT ON es.staged;
--   GRANT INSERT, UPDATE, DELETE ON es.checkpoint, es.anchor, es.timer, es.member, es.begun, es.dead;
-- events are written by functions that run with the owner's rights, so that nobody passes by the log's lock.
DO $$ BEGIN
  IF to_regnamespace('es') IS NULL THEN CREATE SCHEMA es; END IF;
END $$;

CREATE TABLE es.log_meta (
  one bool PRIMARY KEY DEFAULT true CHECK (one),
  log_id uuid NOT NULL DEFAULT gen_random_uuid(),
  schema_rev bigint NOT NULL
);
INSERT INTO es.log_meta (schema_rev) VALUES (1);

CREATE TABLE es.event (
  pos bigint PRIMARY KEY,                         -- dense, in commit order
  version bigint NOT NULL,                        -- dense in its stream
  recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),   -- never before that of pos - 1
  append_hash bigint,                             -- on the first event of an append: what a repeat is compared with
  event_id uuid NOT NULL,
  corr uuid,
  caus uuid,
  schema_version smallint NOT NULL DEFAULT 1,
  codec smallint NOT NULL DEFAULT 1,              -- 1 json
  stream_id text COLLATE "C" NOT NULL,
  type text COLLATE "C" NOT NULL,
  topic text COLLATE "C",                         -- where the relay publishes it; null = internal
  key text COLLATE "C",
  payload bytea NOT NULL,
  meta bytea                                      -- headers, as a JSON object
) WITH (autovacuum_freeze_min_age = 10000000);
CREATE UNIQUE INDEX event_stream_version ON es.event (stream_id, version);
CREATE UNIQUE INDEX event_id_uq ON es.event (event_id);

-- Only streams that are not plainly open. A change of it is an event too: it must move the head.
CREATE TABLE es.stream (
  stream_id text COLLATE "C" PRIMARY KEY,
  truncate_before bigint NOT NULL DEFAULT 0,
  state smallint NOT NULL DEFAULT 0               -- 0 open, 1 archived, 2 tombstoned
);

-- What was staged in callers' transactions and has no position yet; es.append sequences it.
-- tx comes first: its default takes the transaction's id before id is drawn, and the drain's low mark rests on that.
-- No index but the key: repeats are dropped by the drain, so that stagers neither pay for one nor wait on one.
CREATE TABLE es.staged (
  tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,     -- never CACHE > 1
  staged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  append_hash bigint,
  event_id uuid NOT NULL,
  append_id uuid NOT NULL,                        -- the first event of the same append
  append_size int NOT NULL DEFAULT 1,             -- and how many they are
  expected smallint NOT NULL DEFAULT -1,          -- -1 any, 0 no stream yet
  schema_version smallint NOT NULL DEFAULT 1,
  codec smallint NOT NULL DEFAULT 1,
  corr uuid,
  caus uuid,
  stream_id text COLLATE "C" NOT NULL,
  type text COLLATE "C" NOT NULL,
  topic text COLLATE "C",
  key text COLLATE "C",
  payload bytea NOT NULL,
  meta bytea,
  -- What es.event could not take must fail here, at the stager: in the drain it would hold up everyone's.
  CHECK (octet_length(stream_id) BETWEEN 1 AND 255 AND octet_length(type) BETWEEN 1 AND 255 AND octet_length(payload) <= 1048576)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_insert_threshold = -1);

-- What was staged and cannot be sequenced, and why. It is looked at by operators, and holds up nothing.
CREATE TABLE es.staged_failed (
  LIKE es.staged,
  reason text NOT NULL,
  failed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What append_in_checked has appended in a transaction that is open: one row is one append, taken up by a trigger inside
-- COMMIT. Seen from outside it is always empty.
CREATE UNLOGGED TABLE es.joined (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  expected bigint NOT NULL,
  append_hash bigint NOT NULL,
  stream_id text NOT NULL,
  e_id uuid[] NOT NULL,
  e_type text[] NOT NULL,
  e_payload bytea[] NOT NULL,
  e_schema smallint[],
  e_corr uuid[],
  e_caus uuid[],
  e_topic text[],
  e_key text[],
  e_meta bytea[]
);

-- Payloads are compressed by lz4 where the server was built with it.
DO $$ BEGIN
  ALTER TABLE es.event ALTER payload SET COMPRESSION lz4;
  ALTER TABLE es.staged ALTER payload SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;

-- Who has read how far. event_id is that at pos: a log that lost its tail is told by it.
CREATE TABLE es.checkpoint (
  name text NOT NULL,
  shard int NOT NULL DEFAULT 0,
  pos bigint NOT NULL DEFAULT 0,
  event_id uuid,
  timeline text,                                  -- the server's, when it was saved; a promotion begins another one
  owner uuid,
  fence bigint NOT NULL DEFAULT 0,                -- a fenced write compares owner and fence
  lease_until timestamptz,
  doubt bigint NOT NULL DEFAULT 0,                -- up to here an owner that did not end well may have begun messages of a bus
  anchors bigint NOT NULL DEFAULT 0,              -- how many of its places have been kept
  anchored_at timestamptz NOT NULL DEFAULT '-infinity', -- when the last one was
  PRIMARY KEY (name, shard)
) WITH (fillfactor = 50);

-- Checkpoints of each consumer, one a second at most and the last 64: where two histories still were one. Each takes the row of
-- the oldest one, in its page: they were deleted once, and that took more of the server than all that was published.
CREATE TABLE es.anchor (
  name text NOT NULL,
  shard int NOT NULL,
  slot int NOT NULL,                              -- its number, modulo 64
  pos bigint NOT NULL,
  event_id uuid NOT NULL,
  PRIMARY KEY (name, shard, slot)
) WITH (fillfactor = 50);

CREATE TABLE es.parked (
  name text NOT NULL,
  stream_id text COLLATE "C" NOT NULL,
  pos bigint NOT NULL,
  attempts int NOT NULL,
  error text NOT NULL,
  parked_at timestamptz NOT NULL,
  PRIMARY KEY (name, pos)
);

CREATE TABLE es.timer (
  name text NOT NULL,
  shard int NOT NULL,
  id text NOT NULL,
  due_at timestamptz NOT NULL,
  payload bytea NOT NULL,
  PRIMARY KEY (name, shard, id)
);
CREATE INDEX timer_due ON es.timer (name, shard, due_at);

-- Who works on which subscription, and wants its part of the shards.
CREATE TABLE es.member (
  name text NOT NULL,
  process uuid NOT NULL,
  about bytea,                                    -- what it says of itself, as JSON
  lease_until timestamptz NOT NULL,
  PRIMARY KEY (name, process)
);

CREATE TABLE es.snapshot (
  kind text NOT NULL,
  stream_id text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  schema_version smallint NOT NULL,
  payload bytea NOT NULL,
  PRIMARY KEY (kind, stream_id)
);
