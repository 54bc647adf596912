"""
The functions of the first two versions of the PostgreSQL store's schema, by which programs of these versions write.

What they do and why: `knhk.stores._postgres_schema`.
Published: not a letter of them changes; a later migration may put another function in the place of one.
"""

from __future__ import annotations

from typing import Final

STORE_BEFORE_ITEMS: Final = """
CREATE FUNCTION {s}.store_1(writer bigint, transaction_number bigint, input jsonb, blobs bytea[]) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = {s}, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    refusals jsonb := '[]';
    losers integer[] := '{}';
    wanted bigint;
    done bigint;
    created bigint;
BEGIN
    -- Lock what is there, in the order of the names.
    IF jsonb_array_length(input->'cases') > 1 THEN
        PERFORM FROM cases WHERE case_id IN
            (SELECT c.case_id FROM jsonb_to_recordset(input->'cases') AS c (case_id text))
            ORDER BY case_id FOR NO KEY UPDATE;
    END IF;
    IF input ? 'documents' THEN
        PERFORM FROM documents WHERE (collection, key) IN
            (SELECT w.collection, w.key FROM jsonb_to_recordset(input->'documents') AS w (collection text, key text))
            ORDER BY collection, key FOR UPDATE;
    END IF;
    IF input ? 'held' THEN
        PERFORM FROM documents WHERE (collection, key) IN
            (SELECT h.collection, h.key FROM jsonb_to_recordset(input->'held') AS h (collection text, key text))
            ORDER BY collection, key FOR SHARE;
    END IF;

    -- Look. Each statement sees what was committed before it began, so these see what the locks waited for.
    IF input ? 'keys' THEN
        refusals := refusals || coalesce((
            SELECT jsonb_agg(jsonb_build_array(k.caller, 'keys', k.place))
            FROM jsonb_to_recordset(input->'keys') AS k (caller integer, place integer, key text)
            WHERE EXISTS (SELECT FROM idempotency AS i WHERE i.key = k.key)), '[]');
    END IF;
    refusals := refusals || coalesce((
        SELECT jsonb_agg(jsonb_build_array(c.caller, 'cases', c.place, k.version, k.quarantined))
        FROM jsonb_to_recordset(input->'cases') AS c (caller integer, place integer, case_id text, expected bigint)
            LEFT JOIN cases AS k ON k.case_id = c.case_id
        WHERE coalesce(k.version, 0) <> c.expected OR k.quarantined IS NOT NULL), '[]');
    IF input ? 'held' THEN
        refusals := refusals || coalesce((
            SELECT jsonb_agg(jsonb_build_array(h.caller, 'held', h.place))
            FROM jsonb_to_recordset(input->'held')
                AS h (caller integer, place integer, collection text, key text, version bigint)
            WHERE NOT EXISTS (SELECT FROM documents AS d
                WHERE d.collection = h.collection AND d.key = h.key AND d.version = h.version)), '[]');
    END IF;
    IF input ? 'documents' THEN
        refusals := refusals || coalesce((
            SELECT jsonb_agg(jsonb_build_array(w.caller, 'documents', w.place))
            FROM jsonb_to_recordset(input->'documents')
                AS w (caller integer, place integer, collection text, key text, expected bigint)
                LEFT JOIN documents AS d ON d.collection = w.collection AND d.key = w.key
            WHERE coalesce(d.version, 0) <> w.expected), '[]');
    END IF;
    IF refusals <> '[]' THEN
        losers := ARRAY(SELECT DISTINCT (r->>0)::integer FROM jsonb_array_elements(refusals) AS r);
    END IF;

    -- Write.
    SELECT count(*) INTO wanted FROM jsonb_to_recordset(input->'cases') AS c (caller integer)
        WHERE c.caller <> ALL (losers);
    IF wanted > 0 THEN
        UPDATE cases AS k SET spec = c.spec, state = c.state, version = c.version, due = c.due,
                runnable = c.runnable, quarantined = c.aside
            FROM jsonb_to_recordset(input->'cases') AS c (caller integer, case_id text, expected bigint, spec bigint,
                state text, version bigint, due bigint, runnable boolean, aside text)
            WHERE k.case_id = c.case_id AND k.version = c.expected AND c.expected > 0 AND k.quarantined IS NULL
                AND c.caller <> ALL (losers);
        GET DIAGNOSTICS done = ROW_COUNT;
        IF done < wanted THEN
            INSERT INTO cases (case_id, spec, state, version, due, runnable, quarantined)
                SELECT c.case_id, c.spec, c.state, c.version, c.due, c.runnable, c.aside
                FROM jsonb_to_recordset(input->'cases') AS c (caller integer, case_id text, expected bigint,
                    spec bigint, state text, version bigint, due bigint, runnable boolean, aside text)
                WHERE c.expected = 0 AND c.caller <> ALL (losers)
                ORDER BY c.case_id COLLATE "C"
                ON CONFLICT (case_id) DO NOTHING;
            GET DIAGNOSTICS created = ROW_COUNT;
            IF done + created <> wanted THEN
                RAISE 'a case was changed by another session' USING ERRCODE = 'KN001';
            END IF;
        END IF;
        INSERT INTO journal (case_row, version, batch)
            SELECT k.id, c.expected + i, blobs[c.blob + i]
            FROM jsonb_to_recordset(input->'cases')
                    AS c (caller integer, case_id text, expected bigint, version bigint, blob integer)
                JOIN cases AS k ON k.case_id = c.case_id
                CROSS JOIN LATERAL generate_series(1, (c.version - c.expected)::integer) AS i
            WHERE c.caller <> ALL (losers);
    END IF;
    IF input ? 'snapshots' THEN
        INSERT INTO snapshots (case_row, version, state)
            SELECT k.id, n.version, blobs[n.blob]
            FROM jsonb_to_recordset(input->'snapshots') AS n (caller integer, case_id text, version bigint, blob integer)
                JOIN cases AS k ON k.case_id = n.case_id
            WHERE n.caller <> ALL (losers)
            ON CONFLICT (case_row) DO UPDATE SET version = excluded.version, state = excluded.state;
    END IF;
    IF input ? 'keys' THEN
        INSERT INTO idempotency (key, digest, case_row)
            SELECT n.key, n.digest, k.id
            FROM jsonb_to_recordset(input->'keys') AS n (caller integer, key text, digest text, case_id text)
                JOIN cases AS k ON k.case_id = n.case_id
            WHERE n.caller <> ALL (losers)
            ORDER BY n.key COLLATE "C"
            ON CONFLICT (key) DO NOTHING;
        GET DIAGNOSTICS done = ROW_COUNT;
        SELECT count(*) INTO wanted FROM jsonb_to_recordset(input->'keys') AS n (caller integer)
            WHERE n.caller <> ALL (losers);
        IF done <> wanted THEN
            RAISE 'an idempotency key was used by another session' USING ERRCODE = 'KN001';
        END IF;
    END IF;
"""

_STORE_ITEMS: Final = """    IF input ? 'items' THEN
        DELETE FROM audiences AS a
            USING jsonb_to_recordset(input->'items') AS n (caller integer, case_id text, number bigint)
            WHERE a.case_id = n.case_id AND a.number = n.number AND n.caller <> ALL (losers);
        DELETE FROM items AS k
            USING jsonb_to_recordset(input->'items') AS n (caller integer, case_id text, number bigint, path text)
            WHERE k.case_id = n.case_id AND k.number = n.number AND n.path IS NULL AND n.caller <> ALL (losers);
        INSERT INTO items (case_id, number, path, state, by, roles, topic, audience, details)
            SELECT n.case_id, n.number, n.path, n.state, n.by, n.roles, n.topic, n.audience, n.details
            FROM jsonb_to_recordset(input->'items') AS n (caller integer, case_id text, number bigint, path text,
                state text, by text, roles text, topic text, audience text, details text)
            WHERE n.path IS NOT NULL AND n.caller <> ALL (losers)
            ON CONFLICT (case_id, number) DO UPDATE SET path = excluded.path, state = excluded.state,
                by = excluded.by, roles = excluded.roles, topic = excluded.topic, audience = excluded.audience,
                details = excluded.details;
        INSERT INTO audiences (audience, case_id, number)
            SELECT DISTINCT word, n.case_id, n.number
            FROM jsonb_to_recordset(input->'items') AS n (caller integer, case_id text, number bigint, words jsonb)
                CROSS JOIN LATERAL jsonb_array_elements_text(n.words) AS word
            WHERE n.words IS NOT NULL AND n.caller <> ALL (losers);
    END IF;
"""

STORE_BEHIND_ITEMS: Final = """    IF input ? 'documents' THEN
        DELETE FROM documents AS d
            USING jsonb_to_recordset(input->'documents')
                AS w (caller integer, collection text, key text, expected bigint, version bigint)
            WHERE d.collection = w.collection AND d.key = w.key AND d.version = w.expected
                AND w.version IS NULL AND w.caller <> ALL (losers);
        UPDATE documents AS d SET value = w.value, due = w.due, version = w.version
            FROM jsonb_to_recordset(input->'documents') AS w (caller integer, collection text, key text,
                expected bigint, value text, due bigint, version bigint)
            WHERE d.collection = w.collection AND d.key = w.key AND d.version = w.expected
                AND w.version IS NOT NULL AND w.expected > 0 AND w.caller <> ALL (losers);
        INSERT INTO documents (collection, key, value, due, version)
            SELECT w.collection, w.key, w.value, w.due, w.version
            FROM jsonb_to_recordset(input->'documents') AS w (caller integer, collection text, key text,
                expected bigint, value text, due bigint, version bigint)
            WHERE w.version IS NOT NULL AND w.expected = 0 AND w.caller <> ALL (losers)
            ORDER BY w.collection COLLATE "C", w.key COLLATE "C"
            ON CONFLICT (collection, key) DO NOTHING;
        GET DIAGNOSTICS done = ROW_COUNT;
        -- Those that were there are locked since before the look; only what was absent can have come up.
        SELECT count(*) INTO wanted
            FROM jsonb_to_recordset(input->'documents') AS w (caller integer, expected bigint, version bigint)
            WHERE w.version IS NOT NULL AND w.expected = 0 AND w.caller <> ALL (losers);
        IF done <> wanted THEN
            RAISE 'a document was written by another session' USING ERRCODE = 'KN001';
        END IF;
    END IF;
    UPDATE writers AS w SET transaction = transaction_number, refused = losers, seen = now()
        WHERE w.id = writer AND w.transaction < transaction_number;
    IF NOT FOUND THEN
        RAISE 'writer % has no row before transaction %', writer, transaction_number USING ERRCODE = 'KN002';
    END IF;
    RETURN refusals;
END
$$
"""

STORE: Final = STORE_BEFORE_ITEMS + _STORE_ITEMS + STORE_BEHIND_ITEMS
"""`store_1`."""

STORE_STEPS: Final = """
CREATE FUNCTION {s}.store_2(writer bigint, transaction_number bigint, input jsonb, blobs bytea[]) RETURNS jsonb
LANGUAGE plpgsql
SET search_path = {s}, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    steps integer := jsonb_array_length(input);
    done bigint;
BEGIN
    -- A step: case, expected version, specification, state, due, runnable, whether it has a snapshot, and rows of the worklist:
    -- number, path, state, by, roles, topic, audience, details, words; of one that is gone the number.
    WITH moved AS (
        UPDATE cases AS k SET spec = (s->>2)::bigint, state = s->>3, version = k.version + 1, due = (s->>4)::bigint,
                runnable = (s->>5)::boolean
            FROM jsonb_array_elements(input) WITH ORDINALITY AS x (s, place)
            WHERE k.case_id = s->>0 AND k.version = (s->>1)::bigint AND k.quarantined IS NULL
            RETURNING k.id, k.version, place)
    INSERT INTO journal (case_row, version, batch) SELECT id, version, blobs[place] FROM moved;
    GET DIAGNOSTICS done = ROW_COUNT;
    IF done <> steps THEN
        RAISE 'one of the cases is not as expected' USING ERRCODE = 'KN003';
    END IF;
    IF cardinality(blobs) > steps THEN
        INSERT INTO snapshots (case_row, version, state)
            SELECT k.id, k.version, blobs[steps + row_number() OVER (ORDER BY place)]
            FROM jsonb_array_elements(input) WITH ORDINALITY AS x (s, place) JOIN cases AS k ON k.case_id = s->>0
            WHERE (s->>6)::boolean
            ON CONFLICT (case_row) DO UPDATE SET version = excluded.version, state = excluded.state;
    END IF;
    WITH said AS (
            SELECT s->>0 AS case_id, (i->>0)::bigint AS number, jsonb_array_length(i) AS length
            FROM jsonb_array_elements(input) AS s CROSS JOIN LATERAL jsonb_array_elements(s->7) AS i),
        words AS (
            DELETE FROM audiences AS a USING said AS n WHERE a.case_id = n.case_id AND a.number = n.number)
    DELETE FROM items AS k USING said AS n WHERE k.case_id = n.case_id AND k.number = n.number AND n.length = 1;
    WITH said AS (
            SELECT s->>0 AS case_id, i
            FROM jsonb_array_elements(input) AS s CROSS JOIN LATERAL jsonb_array_elements(s->7) AS i
            WHERE jsonb_array_length(i) > 1),
        kept AS (
            INSERT INTO items (case_id, number, path, state, by, roles, topic, audience, details)
            SELECT case_id, (i->>0)::bigint, i->>1, i->>2, i->>3, i->>4, i->>5, i->>6, i->>7 FROM said
            ON CONFLICT (case_id, number) DO UPDATE SET path = excluded.path, state = excluded.state,
                by = excluded.by, roles = excluded.roles, topic = excluded.topic, audience = excluded.audience,
                details = excluded.details)
    INSERT INTO audiences (audience, case_id, number)
        SELECT word, case_id, (i->>0)::bigint FROM said CROSS JOIN LATERAL jsonb_array_elements_text(i->8) AS word;
    UPDATE writers AS w SET transaction = transaction_number, refused = '{}', seen = now()
        WHERE w.id = writer AND w.transaction < transaction_number;
    IF NOT FOUND THEN
        RAISE 'writer % has no row before transaction %', writer, transaction_number USING ERRCODE = 'KN002';
    END IF;
    RETURN '[]';
END
$$
"""
"""`store_2`."""
