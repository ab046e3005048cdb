-- The append. One call is one flush: any number of independent groups, one commit, one round trip.
--
--   a_*  one element per append (one stream; a stream at most once per call)
--     a_expected  -1 any, -2 exists, n exact (0 = no stream)
--     a_start     the version the caller remembers or, where it does not, assumes (exact only); null = look all up
--     a_off       events of this call before this append
--     a_group     ascending from 1, contiguous; null = each append is its own group
--     a_hash      hash of the whole append, kept on its first event
--   m_append      the appends whose a_start is assumed
--   e_*  one element per event, in the order of the appends; e_append = its append (1-based).
--        An optional array that holds nothing but its default is left out (null): that is cheaper than n nulls. Three
--        prepared statements are kept: the first twelve arguments; those and the drain's three; all.
--   g_*  guards: group g_group[i] is refused if stream g_stream[i] has an event after position g_after[i]
--   f_*  fences: group f_group[i] moves checkpoint (name, shard) to (f_pos, f_event), if owner and fence still match.
--        Ordered by name and shard, so that rows are locked in one order.
--   a_check       look ids up (after a 23505, and after a connection was lost)
--   a_drain       most staged rows to sequence before the flush is judged, 0 = do not look: whoever staged, committed and then
--                 appends finds its own events
--   a_low         staged ids up to this one are known to be settled, but for those of a_late (see es.drain_locked)
--   a_late        transactions that may have staged below a_low and ran when it was passed; null = there are none, and nobody
--                 asks for those that run
-- Returns known = the caller's token is the head, so that what it remembers holds; base = the head before the flush, after
--   the drain; head, head_id = after the flush; status null = all appended, else
--     0 appended, 1 repeated (version, first_pos = first receipt), 2 version conflict (version = actual), 3 id reused,
--     4 refused with its group, 5 stream closed, 6 guard, 7 fenced;
--   refused = the verdict on each group: null fine, 1 repeated, 4, 6, 7; g_at = the last position of each guard's stream.
-- An unheld lock (lock_timeout, 55P03) is a definite failure without effect.
CREATE FUNCTION es.append(
  a_head bigint, a_head_id uuid,
  a_stream text[], a_expected bigint[], a_start bigint[], a_off int[], a_hash bigint[], m_append int[],
  e_append int[], e_id uuid[], e_type text[], e_payload bytea[],
  a_drain int DEFAULT 0, a_low bigint DEFAULT 0, a_late bigint[] DEFAULT NULL, a_check bool DEFAULT false, a_group int[] DEFAULT NULL,
  e_schema smallint[] DEFAULT NULL, e_codec smallint[] DEFAULT NULL, e_corr uuid[] DEFAULT NULL, e_caus uuid[] DEFAULT NULL,
  e_topic text[] DEFAULT NULL, e_key text[] DEFAULT NULL, e_meta bytea[] DEFAULT NULL,
  g_group int[] DEFAULT NULL, g_stream text[] DEFAULT NULL, g_after bigint[] DEFAULT NULL,
  f_group int[] DEFAULT NULL, f_name text[] DEFAULT NULL, f_shard int[] DEFAULT NULL, f_owner uuid[] DEFAULT NULL,
  f_fence bigint[] DEFAULT NULL, f_pos bigint[] DEFAULT NULL, f_event uuid[] DEFAULT NULL,
  OUT known bool, OUT base bigint, OUT status smallint[], OUT version bigint[], OUT first_pos bigint[],
  OUT refused smallint[], OUT g_at bigint[], OUT head bigint, OUT head_id uuid,
  OUT d_stream text[], OUT d_version bigint[], OUT d_taken int, OUT d_failed int,
  OUT d_seq bigint, OUT d_xmin bigint, OUT d_xid bigint, OUT d_running bigint[], OUT clock timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off SET lock_timeout = '5s' AS $$
#variable_conflict use_variable
DECLARE
  n int := coalesce(cardinality(e_id), 0);
  na int := coalesce(cardinality(a_stream), 0);
  start bigint[];       -- the version each append starts after
  at timestamptz;
  fine bool := true;
  f record;
  gs smallint[];        -- verdict on each group
  gi int; gfirst int; put int[];
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'an append needs READ COMMITTED' USING ERRCODE = 'ES003';
  END IF;
  -- Not a SET clause: that one is gone at COMMIT. What waits for more than the disks is left so.
  PERFORM set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true),
          pg_advisory_xact_lock(x'65730001'::bigint << 32 | 'es.event'::regclass::oid::bigint);
  -- A statement of its own: its snapshot is later than the lock, and whatever it looks up (ids too) waited for it.
  SELECT e.pos, e.event_id, e.recorded_at INTO base, head_id, at FROM es.event e ORDER BY e.pos DESC LIMIT 1;
  base := coalesce(base, 0);
  -- The token is (pos, event_id): the position alone may come back after a lost tail.
  known := a_head IS NOT DISTINCT FROM base AND a_head_id IS NOT DISTINCT FROM head_id;
  clock := clock_timestamp();
  at := greatest(clock, at);

  IF a_drain > 0 THEN
    IF pg_current_xact_id_if_assigned() IS NULL THEN
      -- Before this transaction has an id: see es.drain_locked. A sequence that was never asked says 1 as well.
      SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END INTO d_seq FROM es.staged_id_seq s;
    END IF;
    SELECT d.head, d.head_id, d.d_stream, d.d_version, d.d_taken, d.d_failed, d.d_xmin, d.d_running
      INTO base, head_id, d_stream, d_version, d_taken, d_failed, d_xmin, d_running
      FROM es.drain_locked(base, head_id, at, a_drain, CASE WHEN a_low <= d_seq THEN a_low ELSE 0 END, a_late) AS d;
  END IF;
  head := base;

  IF na > 0 THEN
    IF known AND a_start IS NOT NULL AND NOT a_check AND d_stream IS NULL THEN
      start := a_start;
      IF m_append IS NOT NULL THEN
        fine := NOT EXISTS (SELECT FROM unnest(m_append) AS m(i)
          WHERE coalesce((SELECT e.version FROM es.event e WHERE e.stream_id = a_stream[m.i] ORDER BY e.version DESC LIMIT 1), 0) <> a_start[m.i]
             OR (SELECT s.state FROM es.stream s WHERE s.stream_id = a_stream[m.i]) <> 0);
      END IF;
    ELSE
      fine := false;
    END IF;
    IF NOT fine THEN                                            -- -9 = closed
      SELECT array_agg(CASE WHEN (SELECT s.state FROM es.stream s WHERE s.stream_id = a.stream) <> 0 THEN -9
               ELSE coalesce((SELECT e.version FROM es.event e WHERE e.stream_id = a.stream ORDER BY e.version DESC LIMIT 1), 0) END) INTO start
        FROM unnest(a_stream) AS a(stream);
      fine := NOT a_check AND (start = a_expected OR NOT EXISTS (
        SELECT FROM unnest(start, a_expected) AS u(cur, expected)
         WHERE expected <> cur AND NOT (expected = -1 AND cur >= 0 OR expected = -2 AND cur > 0)));
    END IF;
  END IF;
  IF f_group IS NOT NULL THEN                                   -- locked, so that a take-over waits for us or we for it
    FOR i IN 1 .. cardinality(f_group) LOOP
      PERFORM FROM es.checkpoint c WHERE c.name = f_name[i] AND c.shard = f_shard[i]
         AND c.owner = f_owner[i] AND c.fence = f_fence[i] FOR UPDATE;
      IF NOT FOUND THEN
        fine := false; gs[f_group[i]] := 7;
      END IF;
    END LOOP;
  END IF;
  IF g_group IS NOT NULL AND (NOT fine OR EXISTS (SELECT FROM unnest(g_stream, g_after) AS g(stream, after)
       WHERE (SELECT e.pos FROM es.event e WHERE e.stream_id = g.stream ORDER BY e.version DESC LIMIT 1) > g.after)) THEN
    fine := false;
    SELECT array_agg((SELECT e.pos FROM es.event e WHERE e.stream_id = g.stream ORDER BY e.version DESC LIMIT 1) ORDER BY g.i) INTO g_at
      FROM unnest(g_stream) WITH ORDINALITY AS g(stream, i);
    FOR i IN 1 .. cardinality(g_group) LOOP
      IF g_at[i] > g_after[i] THEN gs[g_group[i]] := 6; END IF;
    END LOOP;
  END IF;

  IF fine THEN
    -- e_x[i] of a plpgsql array is O(1) and copies nothing; unnest would spool every array.
    IF n = na THEN                                              -- one event per append: half of the subscripts
      INSERT INTO es.event (pos, version, recorded_at, append_hash, event_id, corr, caus, schema_version, codec, stream_id, type, topic, key, payload, meta)
      SELECT base + i, start[i] + 1, at, a_hash[i],
             e_id[i], e_corr[i], e_caus[i], coalesce(e_schema[i], 1::smallint), coalesce(e_codec[i], 1::smallint), a_stream[i], e_type[i],
             e_topic[i], e_key[i], e_payload[i], e_meta[i]
        FROM generate_series(1, n) AS i;
    ELSE
      INSERT INTO es.event (pos, version, recorded_at, append_hash, event_id, corr, caus, schema_version, codec, stream_id, type, topic, key, payload, meta)
      SELECT base + i, start[e_append[i]] - a_off[e_append[i]] + i, at, CASE WHEN a_off[e_append[i]] = i - 1 THEN a_hash[e_append[i]] END,
             e_id[i], e_corr[i], e_caus[i], coalesce(e_schema[i], 1::smallint), coalesce(e_codec[i], 1::smallint), a_stream[e_append[i]], e_type[i],
             e_topic[i], e_key[i], e_payload[i], e_meta[i]
        FROM generate_series(1, n) AS i;
    END IF;
    version := start;                                           -- status and first_pos stay null
    IF n > 0 THEN
      head := base + n; head_id := e_id[n];
    END IF;
  ELSE                                                          -- rare: a repeat, a reused id, a conflict, a guard, a fence
    version := start; put := array_fill(-1, ARRAY[na]);
    -- First each append by itself. A repeat is known by its first id, whatever its guard or fence would say now.
    FOR i IN 1 .. na LOOP
      gi := coalesce(a_group[i], i);
      SELECT e.pos, e.version, e.stream_id, e.append_hash INTO f FROM es.event e WHERE e.event_id = e_id[a_off[i] + 1];
      IF FOUND THEN
        status[i] := CASE WHEN f.stream_id = a_stream[i] AND f.append_hash = a_hash[i] THEN 1 ELSE 3 END;
        first_pos[i] := f.pos;
        IF status[i] = 1 THEN
          version[i] := f.version + coalesce(a_off[i + 1], n) - a_off[i] - 1;
        END IF;
      ELSE
        first_pos[i] := 0;
        status[i] := CASE WHEN start[i] < 0 THEN 5
                          WHEN a_expected[i] = start[i] OR a_expected[i] = -1 OR a_expected[i] = -2 AND start[i] > 0 THEN 0
                          ELSE 2 END;
      END IF;
    END LOOP;
    -- Then each group: all repeated, or all new and fine, or nothing of it.
    FOR i IN 1 .. na LOOP
      gi := coalesce(a_group[i], i);
      IF i = 1 OR gi <> coalesce(a_group[i - 1], i - 1) THEN
        gfirst := i;
      END IF;
      IF i = na OR gi <> coalesce(a_group[i + 1], i + 1) THEN   -- its last member
        IF 1 <> ALL (status[gfirst:i]) AND (gs[gi] IS NOT NULL OR 0 <> ANY (status[gfirst:i]))
           OR 1 = ANY (status[gfirst:i]) AND 1 <> ANY (status[gfirst:i]) THEN
          FOR k IN gfirst .. i LOOP
            IF status[k] IN (0, 1) THEN
              status[k] := CASE WHEN status[k] = 1 THEN 3 ELSE coalesce(gs[gi], 4) END;
            END IF;
          END LOOP;
          gs[gi] := coalesce(gs[gi], 4);
        ELSIF status[gfirst] = 1 THEN
          gs[gi] := 1;
        ELSE
          FOR k IN gfirst .. i LOOP
            first_pos[k] := head + 1; put[k] := head - base - a_off[k];
            head := head + coalesce(a_off[k + 1], n) - a_off[k];
          END LOOP;
        END IF;
      END IF;
    END LOOP;
    -- An array that was assigned to from its third element on begins there: made anew, it begins at 1.
    SELECT array_agg(gs[i] ORDER BY i) INTO refused FROM generate_series(1, greatest(coalesce(a_group[na], na), array_upper(gs, 1))) AS i;
    IF head > base THEN
      INSERT INTO es.event (pos, version, recorded_at, append_hash, event_id, corr, caus, schema_version, codec, stream_id, type, topic, key, payload, meta)
      SELECT base + put[e_append[i]] + i, start[e_append[i]] - a_off[e_append[i]] + i, at, CASE WHEN a_off[e_append[i]] = i - 1 THEN a_hash[e_append[i]] END,
             e_id[i], e_corr[i], e_caus[i], coalesce(e_schema[i], 1::smallint), coalesce(e_codec[i], 1::smallint), a_stream[e_append[i]], e_type[i],
             e_topic[i], e_key[i], e_payload[i], e_meta[i]
        FROM generate_series(1, n) AS i WHERE status[e_append[i]] = 0;
      SELECT e.event_id INTO head_id FROM es.event e WHERE e.pos = head;
    END IF;
  END IF;
  IF f_group IS NOT NULL THEN
    FOR i IN 1 .. cardinality(f_group) LOOP
      IF gs[f_group[i]] IS NULL THEN
        PERFORM es.checkpoint_move(f_name, f_shard, f_pos, f_event, ARRAY[i]);
      END IF;
    END LOOP;
  END IF;
  IF a_drain > 0 THEN
    d_xid := pg_current_xact_id_if_assigned()::text::bigint;
  END IF;
END $$;

-- Sequences staged rows, in the order of their ids, behind position a_head. Under the log's lock only.
-- A known id is dropped (a repeat); a closed stream or a start key that is taken goes to es.staged_failed; neither stops the
-- rest. The events of one append stand together, and keep its hash where all of them are there: only then it is known again.
--
-- Deleted rows stay in the index until VACUUM, and a walk from its left end would cost more and more. So the caller passes a
-- low mark: after an answer with d_taken < a_drain it may pass d_seq of an EARLIER answer as a_low, once d_xmin >= d_xid of
-- that earlier answer: d_xid was drawn after d_seq was read, so whoever had a staged id up to d_seq had a smaller transaction
-- id (es.staged.tx), has ended, and what it left was visible to this drain and is taken. Not with a snapshot's xmax for d_xid:
-- that is the last COMPLETED id + 1, and running transactions lie above it (the order of staged rows breaks).
-- A transaction that stands still would keep the mark where it is, and each call would walk over all that was staged since and
-- cannot be vacuumed while it runs. So the mark may pass, of an earlier answer, also where some transactions before d_xid run
-- still, which are in d_running: they are given as a_late from then on, and as soon as one of them has ended the walk begins
-- at 0. That is asked by the snapshot that reads the rows: else its rows above the mark would be taken before those below it.
-- A new server connection, and every second or so, begins again at 0.
CREATE FUNCTION es.drain_locked(a_head bigint, a_head_id uuid, at timestamptz, lim int, low bigint, late bigint[],
  OUT head bigint, OUT head_id uuid, OUT d_stream text[], OUT d_version bigint[], OUT d_taken int, OUT d_failed int, OUT d_xmin bigint,
  OUT d_running bigint[])
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_variable
DECLARE
  ids bigint[];
BEGIN
  head := a_head; head_id := a_head_id; d_failed := 0;
  d_xmin := pg_snapshot_xmin(pg_current_snapshot())::text::bigint;        -- older than the snapshot that reads the rows
  IF late IS NULL THEN
    SELECT array_agg(x.id) INTO ids FROM (SELECT s.id FROM es.staged s WHERE s.id > low ORDER BY s.id LIMIT lim) x;
  ELSE
    SELECT r.running, (SELECT array_agg(x.id) FROM (
             SELECT s.id FROM es.staged s WHERE s.id > CASE WHEN late <@ r.running THEN low ELSE 0 END ORDER BY s.id LIMIT lim) x)
      INTO d_running, ids
      FROM (SELECT coalesce(array_agg(x::text::bigint), '{}') AS running FROM pg_snapshot_xip(pg_current_snapshot()) AS x) r;
  END IF;
  d_taken := coalesce(cardinality(ids), 0);
  IF d_taken = 0 THEN RETURN; END IF;
  WITH d AS MATERIALIZED (DELETE FROM es.staged s WHERE s.id = ANY (ids) RETURNING *),
       n AS (SELECT d.*, min(d.id) OVER (PARTITION BY d.tx, d.append_id) AS o FROM d),
       -- NOT EXISTS became a merge join over the whole log.
       u AS (SELECT n.*, row_number() OVER (PARTITION BY n.stream_id ORDER BY n.o, n.id) AS k,
                    coalesce((SELECT e.version FROM es.event e WHERE e.stream_id = n.stream_id ORDER BY e.version DESC LIMIT 1), 0) AS cur
               FROM (SELECT DISTINCT ON (n.event_id) n.* FROM n ORDER BY n.event_id, n.o, n.id) n
              WHERE (SELECT e.pos FROM es.event e WHERE e.event_id = n.event_id) IS NULL),
       c AS (SELECT u.*, count(*) OVER one = u.append_size AS whole,
                    CASE WHEN (SELECT s.state FROM es.stream s WHERE s.stream_id = u.stream_id) <> 0 THEN 'stream closed'
                         WHEN u.expected = 0 AND (u.cur > 0 OR min(u.k) OVER one > 1) THEN 'stream exists' END AS reason
               FROM u WINDOW one AS (PARTITION BY u.tx, u.append_id)),
       x AS (INSERT INTO es.staged_failed (tx, id, staged_at, append_hash, event_id, append_id, append_size, expected, schema_version, codec, corr, caus, stream_id, type, topic, key, payload, meta, reason)
             SELECT tx, id, staged_at, append_hash, event_id, append_id, append_size, expected, schema_version, codec, corr, caus, stream_id, type, topic, key, payload, meta, reason FROM c WHERE reason IS NOT NULL
             RETURNING id),
       i AS (INSERT INTO es.event (pos, version, recorded_at, append_hash, event_id, corr, caus, schema_version, codec, stream_id, type, topic, key, payload, meta)
             SELECT a_head + row_number() OVER (ORDER BY o, id), cur + row_number() OVER (PARTITION BY stream_id ORDER BY o, id), at,
                    CASE WHEN whole THEN append_hash END, event_id, corr, caus, schema_version, codec, stream_id, type, topic, key, payload, meta
               FROM c WHERE reason IS NULL ORDER BY o, id
             RETURNING stream_id, version, pos, event_id)
  SELECT array_agg(i.stream_id), array_agg(i.version), coalesce(max(i.pos), head), coalesce((array_agg(i.event_id ORDER BY i.pos DESC))[1], head_id),
         (SELECT count(*) FROM x)
    INTO d_stream, d_version, head, head_id, d_failed FROM i;
END $$;

-- The same one by one, after a drain has failed: what the log cannot take for a reason of its own (somebody's trigger, say) is
-- set aside with it; what stops every row is raised again.
CREATE FUNCTION es.drain_one_by_one(lim int, OUT head bigint, OUT d_taken int, OUT d_failed int)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off SET lock_timeout = '5s' AS $$
DECLARE
  one bigint; base bigint; base_id uuid; at timestamptz; failed int;
BEGIN
  PERFORM set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true),
          pg_advisory_xact_lock(x'65730001'::bigint << 32 | 'es.event'::regclass::oid::bigint);
  d_taken := 0; d_failed := 0;
  FOR one IN SELECT s.id FROM es.staged s ORDER BY s.id LIMIT lim LOOP
    SELECT e.pos, e.event_id, e.recorded_at INTO base, base_id, at FROM es.event e ORDER BY e.pos DESC LIMIT 1;
    BEGIN
      SELECT d.d_failed INTO failed FROM es.drain_locked(coalesce(base, 0), base_id, greatest(clock_timestamp(), at), 1, one - 1, NULL) AS d;
    EXCEPTION WHEN OTHERS THEN
      IF SQLSTATE ~ '^(25|40|53|55|57|58|XX)' THEN RAISE; END IF;
      WITH d AS (DELETE FROM es.staged s WHERE s.id = one RETURNING *)
      INSERT INTO es.staged_failed (tx, id, staged_at, append_hash, event_id, append_id, append_size, expected, schema_version, codec, corr, caus, stream_id, type, topic, key, payload, meta, reason)
      SELECT tx, id, staged_at, append_hash, event_id, append_id, append_size, expected, schema_version, codec, corr, caus, stream_id, type, topic, key, payload, meta, SQLSTATE || ': ' || SQLERRM FROM d;
      failed := 1;
    END;
    d_taken := d_taken + 1; d_failed := d_failed + failed;
  END LOOP;
  head := coalesce((SELECT e.pos FROM es.event e ORDER BY e.pos DESC LIMIT 1), 0);
END $$;

-- append_in_checked, inside the caller's transaction. What can be said without the lock is said at once, without effect on the
-- transaction: repeated = an event that is in the log already; status 2, 5 as of es.append, with the actual version. Null: it
-- is taken up at COMMIT, which fails with ES001 (as status 2, 5) or ES002 (as repeated) where somebody else came first: the
-- event is there if and only if the caller's effect is.
CREATE FUNCTION es.join(a_stream text, a_expected bigint, a_hash bigint, e_id uuid[], e_type text[], e_payload bytea[],
  e_schema smallint[], e_corr uuid[], e_caus uuid[], e_topic text[], e_key text[], e_meta bytea[],
  OUT status smallint, OUT version bigint, OUT repeated uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_variable
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE 'an append needs READ COMMITTED' USING ERRCODE = 'ES003';
  END IF;
  SELECT e.event_id INTO repeated FROM es.event e WHERE e.event_id = ANY (e_id) LIMIT 1;
  IF FOUND THEN RETURN; END IF;
  version := coalesce((SELECT e.version FROM es.event e WHERE e.stream_id = a_stream ORDER BY e.version DESC LIMIT 1), 0);
  IF (SELECT s.state FROM es.stream s WHERE s.stream_id = a_stream) <> 0 THEN
    status := 5;
  ELSIF a_expected <> version AND NOT (a_expected = -1 OR a_expected = -2 AND version > 0) THEN
    status := 2;
  ELSE
    INSERT INTO es.joined (expected, append_hash, stream_id, e_id, e_type, e_payload, e_schema, e_corr, e_caus, e_topic, e_key, e_meta)
    VALUES (a_expected, a_hash, a_stream, e_id, e_type, e_payload, e_schema, e_corr, e_caus, e_topic, e_key, e_meta);
  END IF;
END $$;

CREATE FUNCTION es.join_checked() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off SET lock_timeout = '5s' AS $$
DECLARE
  r record; known uuid;
BEGIN
  DELETE FROM es.joined j WHERE j.id = NEW.id;
  PERFORM pg_advisory_xact_lock(x'65730001'::bigint << 32 | 'es.event'::regclass::oid::bigint);
  SELECT e.event_id INTO known FROM es.event e WHERE e.event_id = ANY (NEW.e_id) LIMIT 1;
  IF FOUND THEN
    RAISE 'already appended' USING ERRCODE = 'ES002', DETAIL = json_build_object('event', known);
  END IF;
  SELECT * INTO r FROM es.append(NULL, NULL, ARRAY[NEW.stream_id], ARRAY[NEW.expected], NULL, ARRAY[0], ARRAY[NEW.append_hash], NULL,
    array_fill(1, ARRAY[cardinality(NEW.e_id)]), NEW.e_id, NEW.e_type, NEW.e_payload,
    e_schema => NEW.e_schema, e_corr => NEW.e_corr, e_caus => NEW.e_caus, e_topic => NEW.e_topic, e_key => NEW.e_key, e_meta => NEW.e_meta);
  IF 0 <> ANY (r.status) THEN
    RAISE 'append refused' USING ERRCODE = 'ES001',
      DETAIL = json_build_object('stream', NEW.stream_id, 'expected', NEW.expected, 'status', r.status[1], 'version', r.version[1]);
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER join_checked AFTER INSERT ON es.joined DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION es.join_checked();
