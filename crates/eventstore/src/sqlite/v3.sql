-- When a place of the consumer was last kept as an anchor, in microseconds since 1970: once a second is enough.
ALTER TABLE es_checkpoint ADD COLUMN anchored_at INTEGER NOT NULL DEFAULT 0;

UPDATE es_log_meta SET schema_rev = 3;
