-- Messages that a group of a bus has begun and not ended: they failed, or held up the checkpoint. None that is plainly
-- acknowledged.
CREATE TABLE es.begun (
  name text NOT NULL,
  shard int NOT NULL,
  pos bigint NOT NULL,
  event_id uuid NOT NULL,                         -- that at pos: a log that lost its tail is told by it
  key text,
  attempts bigint NOT NULL,
  due_at timestamptz NOT NULL,                    -- not tried again before
  PRIMARY KEY (name, shard, pos)
);

-- Messages that a group gave up. Their content lies at pos.
CREATE TABLE es.dead (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL,
  shard int NOT NULL,
  pos bigint NOT NULL,
  event_id uuid NOT NULL,
  topic text COLLATE "C" NOT NULL,
  group_name text COLLATE "C" NOT NULL,
  message_id uuid NOT NULL,
  attempts bigint NOT NULL,
  reason text NOT NULL,
  died_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX dead_message ON es.dead (topic, group_name, message_id);
CREATE INDEX dead_number ON es.dead (topic, group_name, number);
CREATE INDEX dead_shard ON es.dead (name, shard, pos);

-- Writes down what became of messages, each under its lease: 0 begun and not ended, 1 ended, 2 given up. Answers which of the
-- leases held.
CREATE FUNCTION es.note(a_name text[], a_shard int[], a_owner uuid[], a_fence bigint[], a_kind smallint[], a_pos bigint[],
  a_event uuid[], a_key text[], a_attempts bigint[], a_due timestamptz[], a_topic text[], a_group text[], a_message uuid[],
  a_reason text[]) RETURNS bool[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
DECLARE
  held bool[] := '{}';
  now timestamptz := clock_timestamp();
BEGIN
  -- Their checkpoints stay as they are meanwhile. Locked in the order in which they are saved: nobody waits in a circle.
  PERFORM FROM es.checkpoint c
    WHERE (c.name, c.shard) IN (SELECT n.name, n.shard FROM unnest(a_name, a_shard) AS n(name, shard))
    ORDER BY c.name, c.shard FOR SHARE;
  FOR i IN 1 .. cardinality(a_name) LOOP
    IF i > 1 AND a_name[i] = a_name[i - 1] AND a_shard[i] = a_shard[i - 1] AND a_owner[i] = a_owner[i - 1] AND a_fence[i] = a_fence[i - 1] THEN
      held[i] := held[i - 1];
    ELSE
      held[i] := EXISTS (SELECT FROM es.checkpoint c
        WHERE c.name = a_name[i] AND c.shard = a_shard[i] AND c.owner = a_owner[i] AND c.fence = a_fence[i]);
    END IF;
    CONTINUE WHEN NOT held[i];
    IF a_kind[i] = 0 THEN
      INSERT INTO es.begun AS b (name, shard, pos, event_id, key, attempts, due_at)
        VALUES (a_name[i], a_shard[i], a_pos[i], a_event[i], a_key[i], a_attempts[i], a_due[i])
        ON CONFLICT (name, shard, pos) DO UPDATE
          SET event_id = excluded.event_id, key = excluded.key, attempts = excluded.attempts, due_at = excluded.due_at;
      CONTINUE;
    END IF;
    DELETE FROM es.begun b WHERE b.name = a_name[i] AND b.shard = a_shard[i] AND b.pos = a_pos[i];
    IF a_kind[i] = 2 THEN
      -- One that died before under the same topic and group gets a new number.
      INSERT INTO es.dead AS d (name, shard, pos, event_id, topic, group_name, message_id, attempts, reason, died_at)
        VALUES (a_name[i], a_shard[i], a_pos[i], a_event[i], a_topic[i], a_group[i], a_message[i], a_attempts[i], a_reason[i], now)
        ON CONFLICT (topic, group_name, message_id) DO UPDATE
          SET number = DEFAULT, name = excluded.name, shard = excluded.shard, pos = excluded.pos, event_id = excluded.event_id,
              attempts = excluded.attempts, reason = excluded.reason, died_at = excluded.died_at;
    END IF;
  END LOOP;
  RETURN held;
END $$;
