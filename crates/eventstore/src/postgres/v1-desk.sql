-- Checkpoints and leases, by the database's clock.

-- The server's timeline: a promoted standby begins another one. Null where the server has none to tell.
CREATE FUNCTION es.timeline() RETURNS text LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END $$;

-- Moves checkpoints forward, never back, those at the given places of the arrays; keeps where they are, once a second at most.
-- Their leases have been looked at. All at once: a coordinator moves dozens of them many times a second.
CREATE FUNCTION es.checkpoint_move(a_name text[], a_shard int[], a_pos bigint[], a_event uuid[], places int[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
DECLARE
  line text := es.timeline();
  at timestamptz := clock_timestamp();
  due timestamptz := at - interval '1 s';
BEGIN
  WITH moved AS (
    UPDATE es.checkpoint c SET pos = a_pos[h.n], event_id = a_event[h.n], timeline = line,
           anchors = CASE WHEN c.anchored_at NOT BETWEEN due AND at THEN c.anchors + 1 ELSE c.anchors END,
           anchored_at = CASE WHEN c.anchored_at NOT BETWEEN due AND at THEN at ELSE c.anchored_at END
      FROM unnest(places) AS h(n)
     WHERE c.name = a_name[h.n] AND c.shard = a_shard[h.n] AND c.pos < a_pos[h.n]
    RETURNING c.name, c.shard, c.anchors, c.pos, c.event_id, c.anchored_at)
  INSERT INTO es.anchor (name, shard, slot, pos, event_id)
  SELECT m.name, m.shard, m.anchors % 64, m.pos, m.event_id FROM moved m WHERE m.anchored_at = at AND m.event_id IS NOT NULL
    ON CONFLICT (name, shard, slot) DO UPDATE SET pos = excluded.pos, event_id = excluded.event_id;
END $$;

-- Saves checkpoints, each if owner and fence still match. Answers which are held.
CREATE FUNCTION es.checkpoint_save(a_name text[], a_shard int[], a_owner uuid[], a_fence bigint[], a_pos bigint[], a_event uuid[]) RETURNS bool[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
DECLARE
  held bool[] := array_fill(false, ARRAY[coalesce(cardinality(a_name), 0)]);
  mine int[];           -- places of those that are held
BEGIN
  -- Locked in one order everywhere.
  SELECT array_agg(l.n) INTO mine FROM (
    SELECT a.n FROM unnest(a_name, a_shard, a_owner, a_fence) WITH ORDINALITY AS a(name, shard, owner, fence, n)
      JOIN es.checkpoint c ON c.name = a.name AND c.shard = a.shard AND c.owner = a.owner AND c.fence = a.fence
     ORDER BY c.name, c.shard FOR UPDATE OF c) l;
  IF mine IS NULL THEN RETURN held; END IF;
  PERFORM es.checkpoint_move(a_name, a_shard, a_pos, a_event, mine);
  SELECT array_agg(i = ANY (mine) ORDER BY i) INTO held FROM generate_series(1, cardinality(a_name)) AS i;
  RETURN held;
END $$;

-- Whether the store that made an owner's id is known to be gone. Every session of a store holds a shared advisory lock, whose key
-- is the second half of the ids that it makes, in version 8: what can be had alone, nobody holds. Where sessions are not a store's
-- own, through a pooler, it makes ids of another version. After a start of the server all are given the time to come back.
CREATE FUNCTION es.is_gone(a_owner uuid, a_asker uuid) RETURNS bool
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  owner text := replace(a_owner::text, '-', '');
BEGIN
  -- A session's own lock keeps it from nothing.
  IF substr(owner, 13, 1) <> '8' OR substr(owner, 17) = substr(replace(a_asker::text, '-', ''), 17)
     OR clock_timestamp() < pg_postmaster_start_time() + interval '2 s' THEN
    RETURN false;
  END IF;
  RETURN pg_try_advisory_xact_lock(('x' || substr(owner, 17))::bit(64)::bigint);
END $$;

-- Takes shards that nobody holds, or one who is gone. A lease that seems to last longer than ttl_max was written before the clock was set back.
-- rows = how many shards the subscription has; where that is not a_shards, nothing is taken. Whoever still holds one that is
-- taken did not end well: up to span positions beyond its checkpoint, at most to the head, its messages are in doubt.
CREATE FUNCTION es.claim(a_name text, a_shards int, a_owner uuid, ttl interval, ttl_max interval, a_pos bigint, a_event uuid, most int,
  span bigint, OUT rows bigint, OUT shard int[], OUT fence bigint[], OUT pos bigint[], OUT event_id uuid[], OUT doubt bigint[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  now timestamptz := clock_timestamp();
  head bigint := coalesce((SELECT e.pos FROM es.event e ORDER BY e.pos DESC LIMIT 1), 0);
BEGIN
  IF NOT EXISTS (SELECT FROM es.checkpoint c WHERE c.name = a_name) THEN
    -- Whoever makes the first row makes the others; who comes second waits for it here.
    INSERT INTO es.checkpoint (name, shard, pos, event_id) VALUES (a_name, 0, a_pos, a_event) ON CONFLICT DO NOTHING;
    IF FOUND THEN
      INSERT INTO es.checkpoint (name, shard, pos, event_id) SELECT a_name, n, a_pos, a_event FROM generate_series(1, a_shards - 1) AS n;
      INSERT INTO es.anchor (name, shard, slot, pos, event_id) SELECT a_name, n, 0, a_pos, a_event FROM generate_series(0, a_shards - 1) AS n
       WHERE a_event IS NOT NULL;
    END IF;
  END IF;
  SELECT count(*) INTO rows FROM es.checkpoint c WHERE c.name = a_name;
  IF rows <> a_shards THEN RETURN; END IF;
  WITH gone AS MATERIALIZED (
    SELECT o.owner FROM (SELECT DISTINCT c.owner FROM es.checkpoint c WHERE c.name = a_name AND c.owner IS NOT NULL) o
     WHERE es.is_gone(o.owner, a_owner)),
  free AS (
    SELECT c.shard FROM es.checkpoint c
     WHERE c.name = a_name AND (c.owner IS NULL OR c.lease_until <= now OR c.lease_until > now + ttl_max
       OR c.owner IN (SELECT g.owner FROM gone g))
     ORDER BY c.shard LIMIT most FOR UPDATE SKIP LOCKED),
  taken AS (
    UPDATE es.checkpoint c SET owner = a_owner, fence = c.fence + 1, lease_until = now + ttl,
           doubt = CASE WHEN c.owner IS NULL THEN c.doubt ELSE greatest(c.doubt, least(c.pos + span, head)) END
      FROM free WHERE c.name = a_name AND c.shard = free.shard
    RETURNING c.shard, c.fence, c.pos, c.event_id, c.doubt)
  SELECT array_agg(t.shard), array_agg(t.fence), array_agg(t.pos), array_agg(t.event_id), array_agg(t.doubt)
    INTO shard, fence, pos, event_id, doubt FROM taken t;
END $$;

-- Says that a process works under a name, and what it says of itself; answers all that do. Who is gone is taken off the list.
CREATE FUNCTION es.member_join(a_name text, a_process uuid, a_about bytea, ttl interval, ttl_max interval)
RETURNS TABLE (process uuid, about bytea)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
  now timestamptz := clock_timestamp();
BEGIN
  INSERT INTO es.member (name, process, about, lease_until) VALUES (a_name, a_process, a_about, now + ttl)
    ON CONFLICT (name, process) DO UPDATE SET about = excluded.about, lease_until = excluded.lease_until;
  DELETE FROM es.member m WHERE (m.name, m.process) IN (
    SELECT d.name, d.process FROM es.member d WHERE d.lease_until <= now OR d.lease_until > now + ttl_max
       OR d.name = a_name AND es.is_gone(d.process, a_process) FOR UPDATE SKIP LOCKED);
  RETURN QUERY SELECT m.process, m.about FROM es.member m WHERE m.name = a_name ORDER BY m.process;
END $$;

-- The first position whose event is of this time or later. Time never goes back along the log, so that it is found by halving.
CREATE FUNCTION es.since(a_time timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
DECLARE
  low bigint := 1; high bigint; middle bigint;
BEGIN
  high := coalesce((SELECT e.pos FROM es.event e ORDER BY e.pos DESC LIMIT 1), 0) + 1;
  WHILE low < high LOOP
    middle := low + (high - low) / 2;
    IF (SELECT e.recorded_at FROM es.event e WHERE e.pos = middle) < a_time THEN
      low := middle + 1;
    ELSE
      high := middle;
    END IF;
  END LOOP;
  RETURN low;
END $$;
