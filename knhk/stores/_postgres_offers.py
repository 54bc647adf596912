"""
The third migration of the PostgreSQL store's schema: a work item that is open to anyone stands in the row of its case.

It is told there by `offer_number` and `offer_path`, one item for each case; `offering` says whether there is one, and is what
the index looks at, so that a row whose offer changes stays on its page, and no index is written.
`worklist` and `worklist_audiences` hold the other items, as `items` and `audiences` did.
`listed` is the highest number that ever stood there for the case: a step that tells of higher ones alone, and finds its place
beside the case, has nothing to do there.
Cases of before have the highest number that there is, because nobody has looked.

Most steps are moves: an item that is closed, an item open to anyone that is new, or both.
`store_step_3` stores one of them, or the first of a case, `store_moves_3` those of several callers, and `store_steps_3` any plain
steps.
They are planned as the session says (`knhk.stores._postgres_connections`), because settings of a function cost a tenth of the step.
What is told of several steps are arrays where it can be, which are gone through once: an element of an array of texts or bytes is
found by going over those before it.

A program of an earlier version which is still running goes on: its functions write by those of here, and what it reads are views
of the names that it knows.
Where one of its calls waits for this migration, it meets the views and is told that another session was faster; it tries again.
"""

from __future__ import annotations

from typing import Final

from knhk._lower import ANYONE
from knhk.stores._offers import OFFERED, OPEN_TO_ANYONE
from knhk.stores._postgres_functions import STORE_BEFORE_ITEMS, STORE_BEHIND_ITEMS

_MOST: Final = 2**63 - 1

_TABLES: Final = (
    "LOCK TABLE {s}.cases, {s}.items, {s}.audiences IN ACCESS EXCLUSIVE MODE",
    "ALTER TABLE {s}.items RENAME TO worklist",
    "ALTER TABLE {s}.audiences RENAME TO worklist_audiences",
    f"""ALTER TABLE {{s}}.cases ADD COLUMN offering boolean NOT NULL DEFAULT false, ADD COLUMN offer_number bigint,
        ADD COLUMN offer_path text, ADD COLUMN listed bigint NOT NULL DEFAULT {_MOST}""",
    "ALTER TABLE {s}.cases ALTER COLUMN listed SET DEFAULT 0",
    "CREATE INDEX cases_offering ON {s}.cases (case_id) WHERE offering",
)

_VIEWS: Final = (
    f"""CREATE VIEW {{s}}.items AS
        SELECT case_id, number, path, state, by, roles, topic, audience, details FROM {{s}}.worklist
        UNION ALL SELECT case_id, offer_number, offer_path, '{OFFERED}', '', '', '', '{OPEN_TO_ANYONE}', ''
            FROM {{s}}.cases WHERE offering""",  # noqa: S608 - constants
    f"""CREATE VIEW {{s}}.audiences AS
        SELECT audience, case_id, number FROM {{s}}.worklist_audiences
        UNION ALL SELECT '{ANYONE}', case_id, offer_number FROM {{s}}.cases WHERE offering""",  # noqa: S608 - constants
    """CREATE FUNCTION {s}.refuse_3() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE 'the schema has been brought up to date' USING ERRCODE = 'KN001';
    END $$""",
    # What the functions of before change there first.
    "CREATE TRIGGER refuse BEFORE DELETE ON {s}.audiences EXECUTE FUNCTION {s}.refuse_3()",
    "CREATE TRIGGER refuse_row INSTEAD OF DELETE ON {s}.audiences FOR EACH ROW EXECUTE FUNCTION {s}.refuse_3()",
    "CREATE TRIGGER refuse_row INSTEAD OF DELETE ON {s}.items FOR EACH ROW EXECUTE FUNCTION {s}.refuse_3()",
)

# For groups of all sizes, where the planner would make a plan for each call, because it looks into arrays.
_ONE_PLAN: Final = "SET plan_cache_mode = force_generic_plan"

_PARAMETERS: Final = "(writer bigint, transaction_number bigint, input jsonb, blobs bytea[])"


def _offer(vacated: str, number: str, path: str, listed: str) -> str:
    """
    Return what a step changes of a case's offer.

    Args:
        vacated: whether the step tells of the item that stands there.
        number, path: the item that is to stand there, or NULL.
        listed: the highest number of the other items that it tells of, or NULL.
    """
    free = f"k.offer_number IS NULL OR {vacated}"
    return f"""offering = CASE WHEN {free} THEN {number} IS NOT NULL ELSE true END,
                offer_number = CASE WHEN {free} THEN {number} ELSE k.offer_number END,
                offer_path = CASE WHEN {free} THEN {path} ELSE k.offer_path END,
                listed = greatest(k.listed, {listed}, CASE WHEN {free} THEN NULL ELSE {number} END)"""


def _listed(told: str) -> str:
    """
    Return what brings the worklist up to date, after the cases have been.

    Args:
        told: rows of JSON: case, the numbers of all items that are told of in ascending order, number and path of the one that may
            stand beside the case, and rows of the others in ascending order: number, path, state, by, roles, topic, audience,
            details, words.
    """
    return f"""WITH said AS (
            SELECT s->>0 AS case_id, n::bigint AS number
            FROM jsonb_array_elements({told}) AS s CROSS JOIN LATERAL jsonb_array_elements_text(s->1) AS n),
        words AS (
            DELETE FROM {{s}}.worklist_audiences AS a USING said AS n WHERE a.case_id = n.case_id AND a.number = n.number)
    DELETE FROM {{s}}.worklist AS k USING said AS n WHERE k.case_id = n.case_id AND k.number = n.number;
    WITH said AS (
            SELECT s->>0 AS case_id, i
            FROM jsonb_array_elements({told}) AS s CROSS JOIN LATERAL jsonb_array_elements(s->4) AS i),
        kept AS (
            INSERT INTO {{s}}.worklist (case_id, number, path, state, by, roles, topic, audience, details)
            SELECT case_id, (i->>0)::bigint, i->>1, i->>2, i->>3, i->>4, i->>5, i->>6, i->>7 FROM said)
    INSERT INTO {{s}}.worklist_audiences (audience, case_id, number)
        SELECT word, case_id, (i->>0)::bigint FROM said CROSS JOIN LATERAL jsonb_array_elements_text(i->8) AS word;"""  # noqa: S608 - constants


def _displaced(told: str) -> str:
    """Return what adds to the worklist those that found no place beside their case; `told` as `_listed` has it, and behind that."""
    return f"""WITH said AS (
            SELECT k.case_id, (s->>2)::bigint AS number, s->>3 AS path
            FROM jsonb_array_elements({told}) AS s JOIN {{s}}.cases AS k ON k.case_id = s->>0
            WHERE s->>2 IS NOT NULL AND (s->>2)::bigint <> k.offer_number),
        kept AS (
            INSERT INTO {{s}}.worklist (case_id, number, path, state, by, roles, topic, audience, details)
            SELECT case_id, number, path, '{OFFERED}', '', '', '', '{OPEN_TO_ANYONE}', '' FROM said)
    INSERT INTO {{s}}.worklist_audiences (audience, case_id, number) SELECT '{ANYONE}', case_id, number FROM said;"""  # noqa: S608 - constants


_LIST_ITEMS: Final = f"""
CREATE FUNCTION {{s}}.list_items_3(told jsonb) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    {_listed("told")}
    {_displaced("told")}
END
$$
"""

_PLACE_ITEMS: Final = f"""
CREATE FUNCTION {{s}}.place_items_3(told jsonb) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    late bigint;
    displaced bigint;
BEGIN
    WITH placed AS (
        UPDATE {{s}}.cases AS k
            SET {_offer("s->1 @> to_jsonb(k.offer_number)", "(s->>2)::bigint", "s->>3", "(s->4->-1->>0)::bigint")}
            FROM jsonb_array_elements(told) AS s
            WHERE k.case_id = s->>0
            RETURNING (s->1->>0)::bigint <= k.listed AS listed, (s->>2)::bigint <> k.offer_number AS displaced)
    SELECT count(*) FILTER (WHERE placed.listed), count(*) FILTER (WHERE placed.displaced) INTO late, displaced FROM placed;
    IF late > 0 THEN
        {_listed("told")}
    END IF;
    IF displaced > 0 THEN
        {_displaced("told")}
    END IF;
END
$$
"""  # noqa: S608 - constants

_PLACE_ALL: Final = """
    IF input ? 'worklist' THEN
        PERFORM place_items_3((
            SELECT jsonb_agg(w->'told') FROM jsonb_array_elements(input->'worklist') AS w
            WHERE (w->>'caller')::integer <> ALL (losers)));
    END IF;
    -- A program of an earlier version: all its items as rows, of one that is gone without a path.
    IF input ? 'items' THEN
        PERFORM place_items_3((
            SELECT jsonb_agg(told) FROM (
                SELECT jsonb_build_array(case_id, jsonb_agg(number ORDER BY number), NULL, NULL, coalesce(jsonb_agg(
                    jsonb_build_array(number, path, state, by, roles, topic, audience, details, coalesce(words, '[]'))
                    ORDER BY number) FILTER (WHERE path IS NOT NULL), '[]')) AS told
                FROM jsonb_to_recordset(input->'items') AS n (caller integer, case_id text, number bigint, path text,
                    state text, by text, roles text, topic text, audience text, details text, words jsonb)
                WHERE n.caller <> ALL (losers)
                GROUP BY case_id) AS of_case));
    END IF;
"""

_STORE: Final = (STORE_BEFORE_ITEMS + _PLACE_ALL + STORE_BEHIND_ITEMS).replace(
    "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"
)

_NOTE: Final = """
    UPDATE {s}.writers AS w SET transaction = transaction_number, refused = '{}', seen = now()
        WHERE w.id = writer AND w.transaction < transaction_number;
    IF NOT FOUND THEN
        RAISE 'writer % has no row before transaction %', writer, transaction_number USING ERRCODE = 'KN002';
    END IF;
    RETURN '[]';
"""

# Called before a function that stores steps, in the same statement; documents are locked as `store_1` locks those that are held.
_HOLD: Final = """
CREATE FUNCTION {s}.hold_3(collections text[], keys text[], versions bigint[]) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    FOR i IN 1..cardinality(keys) LOOP
        PERFORM FROM {s}.documents AS d
            WHERE d.collection = collections[i] AND d.key = keys[i] AND d.version = versions[i] FOR SHARE;
        IF NOT FOUND THEN
            RAISE 'a document is not as it is held' USING ERRCODE = 'KN003';
        END IF;
    END LOOP;
    RETURN true;
END
$$
"""

_STORE_STEP: Final = f"""
CREATE FUNCTION {{s}}.store_step_3(writer bigint, transaction_number bigint, name text, expected bigint, spec_row bigint,
    new_state text, new_due bigint, is_runnable boolean, closed bigint, offer bigint, path text, batch bytea) RETURNS jsonb
LANGUAGE plpgsql
AS $$
DECLARE
    case_row bigint;
    most bigint;
BEGIN
    IF expected = 0 THEN
        INSERT INTO {{s}}.cases (case_id, spec, state, version, due, runnable, offering, offer_number, offer_path)
            VALUES (name, spec_row, new_state, 1, new_due, is_runnable, offer IS NOT NULL, offer, path)
            ON CONFLICT (case_id) DO NOTHING
            RETURNING id, listed INTO case_row, most;
    ELSE
        UPDATE {{s}}.cases AS k SET spec = spec_row, state = new_state, version = k.version + 1, due = new_due,
                runnable = is_runnable,
                {_offer("k.offer_number IN (closed, offer)", "offer", "path", "NULL")}
            WHERE k.case_id = name AND k.version = expected AND k.quarantined IS NULL
            RETURNING k.id, k.listed INTO case_row, most;
    END IF;
    IF NOT FOUND THEN
        RAISE 'the case is not as expected' USING ERRCODE = 'KN003';
    END IF;
    INSERT INTO {{s}}.journal (case_row, version, batch) VALUES (case_row, expected + 1, batch);
    IF least(closed, offer) <= most THEN
        PERFORM {{s}}.list_items_3(jsonb_build_array(jsonb_build_array(
            name, array_remove(ARRAY[closed, offer], NULL), offer, path, jsonb '[]')));
    END IF;
    {_NOTE}
END
$$
"""  # noqa: S608 - constants

_STORE_MOVES: Final = f"""
CREATE FUNCTION {{s}}.store_moves_3(writer bigint, transaction_number bigint, names text[], versions bigint[], specs bigint[],
    states text[], dues bigint[], runnables boolean[], gone bigint[], offers bigint[], paths text[], batches bytea[]) RETURNS jsonb
LANGUAGE plpgsql
{_ONE_PLAN}
AS $$
DECLARE
    done bigint;
    late bigint;
BEGIN
    WITH moved AS (
        UPDATE {{s}}.cases AS k SET spec = x.spec, state = x.state, version = k.version + 1, due = x.due,
                runnable = x.runnable,
                {_offer("k.offer_number IN (x.closed, x.offer)", "x.offer", "x.path", "NULL")}
            FROM unnest(names, versions, specs, states, dues, runnables, gone, offers, paths, batches)
                AS x (name, expected, spec, state, due, runnable, closed, offer, path, batch)
            WHERE k.case_id = x.name AND k.version = x.expected AND k.quarantined IS NULL
            RETURNING k.id, k.version, x.batch, least(x.closed, x.offer) <= k.listed AS listed),
        logged AS (
            INSERT INTO {{s}}.journal (case_row, version, batch) SELECT id, version, batch FROM moved)
    SELECT count(*), count(*) FILTER (WHERE listed) INTO done, late FROM moved;
    IF done <> cardinality(names) THEN
        RAISE 'one of the cases is not as expected' USING ERRCODE = 'KN003';
    END IF;
    IF late > 0 THEN
        PERFORM {{s}}.list_items_3((
            SELECT jsonb_agg(jsonb_build_array(
                x.name, array_remove(ARRAY[x.closed, x.offer], NULL), x.offer, x.path, jsonb '[]'))
            FROM unnest(names, gone, offers, paths) AS x (name, closed, offer, path)
                JOIN {{s}}.cases AS k ON k.case_id = x.name
            WHERE least(x.closed, x.offer) <= k.listed));
    END IF;
    {_NOTE}
END
$$
"""  # noqa: S608 - constants

# A row of the input: what is told of the items of a case, as `_listed` has it, and behind that expected version, specification,
# state, due, runnable, whether it has a snapshot.
_STORE_STEPS: Final = f"""
CREATE FUNCTION {{s}}.store_steps_3{_PARAMETERS} RETURNS jsonb
LANGUAGE plpgsql
{_ONE_PLAN}
AS $$
DECLARE
    steps integer := jsonb_array_length(input);
    done bigint;
    late bigint;
    displaced bigint;
BEGIN
    WITH moved AS (
        UPDATE {{s}}.cases AS k SET spec = (s->>6)::bigint, state = s->>7, version = k.version + 1, due = (s->>8)::bigint,
                runnable = (s->>9)::boolean,
                {_offer("s->1 @> to_jsonb(k.offer_number)", "(s->>2)::bigint", "s->>3", "(s->4->-1->>0)::bigint")}
            FROM ROWS FROM (jsonb_array_elements(input), unnest(blobs)) AS x (s, batch)
            WHERE k.case_id = s->>0 AND k.version = (s->>5)::bigint AND k.quarantined IS NULL
            RETURNING k.id, k.version, batch, (s->1->>0)::bigint <= k.listed AS listed,
                (s->>2)::bigint <> k.offer_number AS displaced),
        logged AS (
            INSERT INTO {{s}}.journal (case_row, version, batch) SELECT id, version, batch FROM moved)
    SELECT count(*), count(*) FILTER (WHERE moved.listed), count(*) FILTER (WHERE moved.displaced)
        INTO done, late, displaced FROM moved;
    IF done <> steps THEN
        RAISE 'one of the cases is not as expected' USING ERRCODE = 'KN003';
    END IF;
    IF cardinality(blobs) > steps THEN
        INSERT INTO {{s}}.snapshots (case_row, version, state)
            SELECT k.id, k.version, blobs[steps + row_number() OVER (ORDER BY place)]
            FROM jsonb_array_elements(input) WITH ORDINALITY AS x (s, place) JOIN {{s}}.cases AS k ON k.case_id = s->>0
            WHERE (s->>10)::boolean
            ON CONFLICT (case_row) DO UPDATE SET version = excluded.version, state = excluded.state;
    END IF;
    IF late > 0 THEN
        {_listed("input")}
    END IF;
    IF displaced > 0 THEN
        {_displaced("input")}
    END IF;
    {_NOTE}
END
$$
"""  # noqa: S608 - constants

# What a program of the second version tells: all its items as rows, of one that is gone the number alone.
_STORE_STEPS_OF_BEFORE: Final = f"""
CREATE OR REPLACE FUNCTION {{s}}.store_2{_PARAMETERS} RETURNS jsonb
LANGUAGE sql
AS $$
    SELECT {{s}}.store_steps_3(writer, transaction_number, (
        SELECT jsonb_agg(jsonb_build_array(s->0,
            (SELECT coalesce(jsonb_agg(i->0 ORDER BY (i->>0)::bigint), '[]') FROM jsonb_array_elements(s->7) AS i), NULL, NULL,
            (SELECT coalesce(jsonb_agg(i ORDER BY (i->>0)::bigint), '[]') FROM jsonb_array_elements(s->7) AS i
                WHERE jsonb_array_length(i) > 1),
            s->1, s->2, s->3, s->4, s->5, s->6) ORDER BY place)
        FROM jsonb_array_elements(input) WITH ORDINALITY AS x (s, place)), blobs)
$$
"""  # noqa: S608 - constants

OFFERS: Final = (
    *(*_TABLES, *_VIEWS, _LIST_ITEMS, _PLACE_ITEMS, _STORE),
    *(_HOLD, _STORE_STEP, _STORE_MOVES, _STORE_STEPS, _STORE_STEPS_OF_BEFORE),
)
"""Its statements; ``{s}`` stands for the schema."""
