-- Up to here an owner that did not end well may have begun messages: each is counted before it is tried again.
ALTER TABLE es_checkpoint ADD COLUMN doubt INTEGER NOT NULL DEFAULT 0;

-- Messages that a group has begun and not ended: they failed, or held up the checkpoint. None that is plainly acknowledged.
CREATE TABLE es_begun (
  name TEXT NOT NULL,
  shard INTEGER NOT NULL,
  pos INTEGER NOT NULL,
  event_id BLOB NOT NULL,                 -- that at pos: a log that lost its tail is told by it
  key TEXT,
  attempts INTEGER NOT NULL,
  due_at INTEGER NOT NULL,                -- microseconds since 1970; not tried again before
  PRIMARY KEY (name, shard, pos)
) STRICT, WITHOUT ROWID;

-- Messages that a group gave up. Their content lies at pos.
CREATE TABLE es_dead (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  shard INTEGER NOT NULL,
  pos INTEGER NOT NULL,
  event_id BLOB NOT NULL,
  topic TEXT NOT NULL,
  group_name TEXT NOT NULL,
  message_id BLOB NOT NULL,
  attempts INTEGER NOT NULL,
  reason TEXT NOT NULL,
  died_at INTEGER NOT NULL                -- microseconds since 1970
) STRICT;
CREATE UNIQUE INDEX es_dead_message ON es_dead (topic, group_name, message_id);
CREATE INDEX es_dead_number ON es_dead (topic, group_name, number);
CREATE INDEX es_dead_shard ON es_dead (name, shard, pos);

-- With the topic in it, so that what is published elsewhere is passed over without a look at its row.
DROP INDEX es_event_published;
CREATE INDEX es_event_published ON es_event (pos, topic) WHERE topic IS NOT NULL;

UPDATE es_log_meta SET schema_rev = 2;
