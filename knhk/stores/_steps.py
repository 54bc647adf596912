"""
Steps in SQLite: what a step changes in four tables is one statement, which may be a transaction of its own.

The statement inserts rows into `steps`, a view that holds nothing: triggers do what each row says, in SQLite and not in as many
calls from Python, and several steps can be rows of one statement.
View and triggers are the connection's own (``TEMP``), so nothing of them is in the file.
The first row of a step is the case and what most steps need besides (a work item that is new or changed, one that is closed);
further rows hold more of them.
An item that is offered to anyone, with nothing else to tell, stands beside its case where there is room, see
`knhk.stores.migrations`; then most steps change one page of the cases and one of the journal.
These have a view of their own, `moves`, with only the values that they need: to bind the others, and to carry them through the
triggers, is a sixth of what such a step costs in SQLite.
A statement is done whole or not at all: where one of its steps finds another version, or the case set aside, it is refused.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from knhk._lower import ANYONE
from knhk.ports import Commit, ItemRow
from knhk.stores._group import Caller
from knhk.stores._offers import OFFERED, OPEN_TO_ANYONE, is_offer

Row = tuple[Any, ...]
Batch = tuple[Sequence[Caller], Sequence[Row]]
"""Callers, and their rows."""

# How many rows there are is rounded up to a power of two, so that few statements are kept prepared.
_MOST_ROWS: Final = 64

_STEP: Final = ("expected", "spec", "state", "version", "due", "runnable", "quarantined", "batch")
_ITEM: Final = ("number", "offer", "path", "item_state", "by", "roles", "topic", "audience", "details", "word")
_COLUMNS: Final = ("case_id", *_STEP, *_ITEM, "closed")
_MOVE: Final = ("case_id", *_STEP[:6], "batch", "number", "offer", "closed")
_MOVE_WIDTH: Final = len(_MOVE)
_NO_STEP: Final = (None,) * len(_STEP)
_NO_ITEM: Final = (None,) * len(_ITEM)
_OFFER_ALONE: Final = _NO_ITEM[2:]

_HEADER: Final = """
    spec = NEW.spec, state = NEW.state, version = NEW.version, due = NEW.due, runnable = NEW.runnable, quarantined = NEW.quarantined
"""
_JOURNAL: Final = "INSERT INTO journal (case_row, version, batch) SELECT id, NEW.version, NEW.batch FROM cases"
_THIS: Final = "case_id = NEW.case_id"
# First what is closed, so that an item may follow it beside the case; then an item that goes to `worklist`; then one that is an
# offer, which goes there too where another stands beside the case.
_ITEMS: Final = f"""
    UPDATE cases SET offering = 0, offer_number = NULL, offer_path = NULL
        WHERE NEW.closed IS NOT NULL AND {_THIS} AND offer_number = NEW.closed;
    DELETE FROM worklist WHERE NEW.closed IS NOT NULL AND {_THIS} AND number = NEW.closed;

    UPDATE cases SET offering = 0, offer_number = NULL, offer_path = NULL
        WHERE NEW.path IS NOT NULL AND {_THIS} AND offer_number = NEW.number;
    INSERT INTO worklist (case_id, number, path, state, by, roles, topic, audience, details)
        SELECT NEW.case_id, NEW.number, NEW.path, NEW.item_state, NEW.by, NEW.roles, NEW.topic, NEW.audience, NEW.details
        WHERE NEW.path IS NOT NULL
        ON CONFLICT (case_id, number) DO UPDATE SET path = excluded.path, state = excluded.state, by = excluded.by,
            roles = excluded.roles, topic = excluded.topic, audience = excluded.audience, details = excluded.details;
    INSERT OR IGNORE INTO audiences (audience, case_id, number)
        SELECT NEW.word, NEW.case_id, NEW.number WHERE NEW.word IS NOT NULL;

    DELETE FROM worklist WHERE NEW.offer IS NOT NULL AND {_THIS} AND number = NEW.number;
    UPDATE cases SET offering = 1, offer_number = NEW.number, offer_path = NEW.offer
        WHERE NEW.offer IS NOT NULL AND {_THIS} AND (offer_number IS NULL OR offer_number = NEW.number);
    INSERT INTO worklist (case_id, number, path, state, by, roles, topic, audience, details)
        SELECT NEW.case_id, NEW.number, NEW.offer, '{OFFERED}', '', '', '', '{OPEN_TO_ANYONE}', ''
        WHERE NEW.offer IS NOT NULL AND changes() = 0;
    INSERT INTO audiences (audience, case_id, number)
        SELECT '{ANYONE}', NEW.case_id, NEW.number WHERE NEW.offer IS NOT NULL AND changes() = 1;
"""  # noqa: S608 - constants
# To SQLite a text in JSON ends at a NUL: that nobody has one in a name is likely, but not certain.
_DISMISS: Final = r"""
    DELETE FROM audiences WHERE case_id = OLD.case_id AND number = OLD.number
        AND audience IN (SELECT value FROM json_each(OLD.audience));
    DELETE FROM audiences WHERE instr(OLD.audience, '\u0000') AND case_id = OLD.case_id AND number = OLD.number;
"""
_PROGRAMS: Final = (
    f"CREATE TEMP VIEW steps AS SELECT {', '.join(f'NULL AS {each}' for each in _COLUMNS)}",
    f"""CREATE TEMP TRIGGER create_case INSTEAD OF INSERT ON steps WHEN NEW.expected = 0 BEGIN
        INSERT INTO cases (case_id, spec, state, version, due, runnable, quarantined)
            VALUES (NEW.case_id, NEW.spec, NEW.state, NEW.version, NEW.due, NEW.runnable, NEW.quarantined)
            ON CONFLICT (case_id) DO NOTHING;
        SELECT RAISE (ABORT, 'the case exists') WHERE changes() <> 1;
        {_JOURNAL} WHERE {_THIS};
        {_ITEMS}
    END""",  # noqa: S608 - constants
    f"""CREATE TEMP TRIGGER advance_case INSTEAD OF INSERT ON steps WHEN NEW.expected > 0 BEGIN
        UPDATE cases SET {_HEADER} WHERE {_THIS} AND version = NEW.expected AND quarantined IS NULL;
        SELECT RAISE (ABORT, 'the case is not at this version') WHERE changes() <> 1;
        {_JOURNAL} WHERE {_THIS};
        {_ITEMS}
    END""",  # noqa: S608 - constants
    f"CREATE TEMP VIEW moves AS SELECT {', '.join(f'NULL AS {each}' for each in _MOVE)}",
    f"""CREATE TEMP TRIGGER move_case INSTEAD OF INSERT ON moves WHEN NEW.case_id IS NOT NULL BEGIN
        -- Where it is not a new one, it may have stood there.
        DELETE FROM worklist WHERE {_THIS} AND number = NEW.number;
        UPDATE cases SET spec = NEW.spec, state = NEW.state, version = NEW.version, due = NEW.due, runnable = NEW.runnable,
                offer_number = NEW.number, offer_path = NEW.offer
            WHERE {_THIS} AND version = NEW.expected AND quarantined IS NULL AND offering AND offer_number = NEW.closed;
        {_JOURNAL} WHERE {_THIS} AND changes() = 1;
        SELECT RAISE (IGNORE) WHERE changes() = 1;
        -- What is closed does not stand beside the case, or the step is refused.
        INSERT INTO steps ({", ".join(_MOVE)}) VALUES ({", ".join(f"NEW.{each}" for each in _MOVE)});
    END""",  # noqa: S608 - constants
    f"""CREATE TEMP TRIGGER more_items INSTEAD OF INSERT ON steps WHEN NEW.expected IS NULL AND NEW.case_id IS NOT NULL
        BEGIN {_ITEMS} END""",
    f"""CREATE TEMP TRIGGER closed AFTER DELETE ON worklist WHEN OLD.audience <> '' BEGIN {_DISMISS} END""",
    f"""CREATE TEMP TRIGGER changed AFTER UPDATE ON worklist WHEN OLD.audience NOT IN ('', NEW.audience) BEGIN {_DISMISS} END""",
)


def _inserts(view: str, columns: Sequence[str]) -> dict[int, str]:
    """Return the statements that insert rows, by how many."""
    row = f"({', '.join('?' * len(columns))})"
    start = f"INSERT INTO {view} ({', '.join(columns)}) VALUES "  # noqa: S608 - constants
    return {size: start + ", ".join([row] * size) for size in (1 << each for each in range(_MOST_ROWS.bit_length()))}


_STEPS: Final = _inserts("steps", _COLUMNS)
_MOVES: Final = _inserts("moves", _MOVE)


def enable_steps(connection: sqlite3.Connection) -> None:
    """Let a connection store steps."""
    connection.execute("PRAGMA temp_store = MEMORY")
    for each in _PROGRAMS:
        connection.execute(each)


def rows_of(commit: Commit, spec: int) -> list[Row]:
    """
    Return a step as rows: of `moves` where it is one, else of `steps`.

    Args:
        commit: the step; its key, snapshot and documents are not in the rows.
        spec: the row of its specification.
    """
    header, items, closed = commit.header, commit.items, commit.closed_items
    case_id = header.case_id
    begin = (case_id, commit.expected, spec, header.state, header.version, header.due, int(header.runnable))
    one = len(items) < 2 and len(closed) < 2
    if one and items:
        item = items[0]
        one = len(item.audience) < 2 and item.number not in closed
        if one and closed and commit.expected and not header.quarantined and is_offer(item):
            return [(*begin, commit.batch, item.number, item.path, closed[0])]
    step = (*begin, header.quarantined or None, commit.batch)
    if one:
        return [(*step, *(_item(items[0]) if items else _NO_ITEM), closed[0] if closed else None)]
    rows: list[Row] = [(*step, *_NO_ITEM, None)]
    for item in items:
        rows.append((case_id, *_NO_STEP, *_item(item), None))
        rows += ((case_id, *_NO_STEP, item.number, *_NO_ITEM[2:], word, None) for word in item.audience[1:])
    rows += ((case_id, *_NO_STEP, *_NO_ITEM, number) for number in closed)
    return rows


def fit(rows: Sequence[Row]) -> bool:
    """Say whether these are rows of one view, and not more than a statement has."""
    return len(rows) == 1 or (0 < len(rows) <= _MOST_ROWS and all(len(each) == len(rows[0]) for each in rows))


def batches(group: Sequence[Caller]) -> list[Batch]:
    """Divide the callers of a group that bring rows alone into such as share a statement, each with their rows."""
    if len(group) == 1:
        return [] if group[0].prepared is None else [(group, group[0].prepared)]
    divided: list[tuple[list[Caller], list[Row]]] = []
    last: dict[int, tuple[list[Caller], list[Row]]] = {}
    for caller in group:
        if caller.prepared is None:
            continue
        width = len(caller.prepared[0])
        if width not in last or len(last[width][1]) + len(caller.prepared) > _MOST_ROWS:
            last[width] = ([], [])
            divided.append(last[width])
        last[width][0].append(caller)
        last[width][1].extend(caller.prepared)
    return list(divided)


def statement_of(rows: Sequence[Row]) -> tuple[str, Sequence[Any]]:
    """
    Return the statement that does what rows of one view say, and its values.

    It raises `sqlite3.IntegrityError`, see `is_refusal`, where a case is not as its step expects it; then nothing of it is done.
    """
    count, width = len(rows), len(rows[0])
    inserts = _MOVES if width == _MOVE_WIDTH else _STEPS
    if count == 1:
        return inserts[1], rows[0]
    size = 1 << (count - 1).bit_length()
    return inserts[size], [*itertools.chain.from_iterable(rows), *(None,) * (width * (size - count))]


def store_rows(connection: sqlite3.Connection, commit: Commit, spec: int) -> None:
    """Do what a step's rows say, in several statements where they are many; it raises as `statement_of` says."""
    rows = rows_of(commit, spec)
    for begin in range(0, len(rows), _MOST_ROWS):
        connection.execute(*statement_of(rows[begin : begin + _MOST_ROWS]))


def is_refusal(error: sqlite3.Error) -> bool:
    """Say whether a case was not as its step expects it."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_TRIGGER


def _item(item: ItemRow) -> tuple[Any, ...]:
    audience = item.audience
    if is_offer(item):
        return (item.number, item.path, *_OFFER_ALONE)
    details = json.dumps(dict(item.details), separators=(",", ":")) if item.details else ""
    return (
        *(item.number, None, item.path, item.state, item.by, _text(item.roles), item.topic),
        *(_text(audience), details, audience[0] if audience else None),
    )


def _text(texts: Sequence[str]) -> str:
    return json.dumps(texts) if texts else ""
