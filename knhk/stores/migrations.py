"""
The schema of the SQLite store, and how an older file becomes a current one.

A case is known by its id, a text, outside; inside by the integer `cases.id`, so that what is stored twelve times per case
(its journal) does not repeat the text.
`cases` holds what can be asked without loading: one row per case, changed by every commit, and it is where compare-and-swap
happens (`version`).
Its partial indexes hold only the cases that have a timer, have automatic work, or are set aside: the thousands of
finished ones cost nothing there.
`journal` holds every batch of every case from its creation on, and is only ever added to; `snapshots` holds at most one
state per case, which makes the batches up to its version unnecessary for loading, though not for history.
A work item that is open to anyone, and of which nothing else is to be told, stands in the row of its case (`offer_number`,
`offer_path`), one for each case: most steps then change that row and add to the journal, and nothing else.
`offering` says whether there is one; it is what the index looks at, which so is not written when one such item follows another.
`worklist` holds the other work items: rows come and go, and it is the one table that repeats the case's id, because it is read
in the order of (case id, number) over all cases.
`audiences` says which items somebody may take up: the rows of `worklist`, by who is in their audience.
`documents` is what is kept beside the cases, by collection and key; a partial index finds what is due.
`idempotency` maps the key of a request to the case it created.
`specifications` holds the registrations in order; nothing is ever deleted from it.

`PRAGMA application_id` says that a file is KNHK's, `PRAGMA user_version` the number of migrations it has seen.
Each migration is one transaction together with its number: a process killed in it leaves the file as it was before.
A published migration is never changed; a new one is added at the end.
"""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Callable
from typing import Any, Final

APPLICATION_ID: Final = 0x4B4E484B
"""``KNHK`` in ASCII."""

_FIRST: Final = (
    """CREATE TABLE specifications (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        spec_id TEXT NOT NULL,
        version TEXT NOT NULL,
        content_hash TEXT NOT NULL,
        text TEXT NOT NULL,
        UNIQUE (spec_id, version))""",
    """CREATE TABLE cases (
        id INTEGER PRIMARY KEY,
        case_id TEXT NOT NULL UNIQUE,
        spec INTEGER NOT NULL REFERENCES specifications (id),
        state TEXT NOT NULL,
        version INTEGER NOT NULL,
        due INTEGER,
        runnable INTEGER NOT NULL,
        quarantined TEXT)""",
    """CREATE INDEX cases_due ON cases (due, case_id)
        WHERE due IS NOT NULL AND state = 'running' AND quarantined IS NULL""",
    """CREATE INDEX cases_runnable ON cases (case_id)
        WHERE runnable AND state = 'running' AND quarantined IS NULL""",
    """CREATE INDEX cases_quarantined ON cases (case_id) WHERE quarantined IS NOT NULL""",
    """CREATE TABLE journal (
        case_row INTEGER NOT NULL REFERENCES cases (id),
        version INTEGER NOT NULL,
        batch BLOB NOT NULL,
        PRIMARY KEY (case_row, version)) WITHOUT ROWID""",
    """CREATE TABLE snapshots (
        case_row INTEGER PRIMARY KEY REFERENCES cases (id),
        version INTEGER NOT NULL,
        state BLOB NOT NULL)""",
    """CREATE TABLE items (
        case_id TEXT NOT NULL REFERENCES cases (case_id),
        number INTEGER NOT NULL,
        path TEXT NOT NULL,
        state TEXT NOT NULL,
        by TEXT NOT NULL,
        roles TEXT NOT NULL,
        topic TEXT NOT NULL,
        PRIMARY KEY (case_id, number)) WITHOUT ROWID""",
    "CREATE INDEX items_by ON items (by, case_id, number) WHERE by <> ''",
    """CREATE TABLE idempotency (
        key TEXT NOT NULL PRIMARY KEY,
        digest TEXT NOT NULL,
        case_row INTEGER NOT NULL REFERENCES cases (id)) WITHOUT ROWID""",
)


def _create(database: Any) -> None:
    for statement in _FIRST:
        database.execute(statement)


_SECOND: Final = (
    "ALTER TABLE items ADD COLUMN audience TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE items ADD COLUMN details TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX items_topic ON items (topic, state, case_id, number) WHERE topic <> ''",
    "CREATE INDEX items_failed ON items (case_id, number) WHERE state = 'failed'",
    """CREATE TABLE audiences (
        audience TEXT NOT NULL,
        case_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (audience, case_id, number),
        FOREIGN KEY (case_id, number) REFERENCES items (case_id, number)) WITHOUT ROWID""",
    """CREATE TABLE documents (
        collection TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        due INTEGER,
        version INTEGER NOT NULL,
        PRIMARY KEY (collection, key)) WITHOUT ROWID""",
    "CREATE INDEX documents_due ON documents (collection, due, key) WHERE due IS NOT NULL",
)


def _add_documents(database: Any) -> None:
    for statement in _SECOND:
        database.execute(statement)


_COMPENSATING: Final = (
    "DROP INDEX cases_due",
    "DROP INDEX cases_runnable",
    """CREATE INDEX cases_due ON cases (due, case_id)
        WHERE due IS NOT NULL AND state IN ('running', 'compensating') AND quarantined IS NULL""",
    """CREATE INDEX cases_runnable ON cases (case_id)
        WHERE runnable AND state IN ('running', 'compensating') AND quarantined IS NULL""",
)


def _let_compensating_cases_work(database: Any) -> None:
    for statement in _COMPENSATING:
        database.execute(statement)


_OFFERS: Final = (
    # The new name keeps out a process of an older version that has the file open: it would not see what stands with the cases.
    "ALTER TABLE items RENAME TO worklist",
    "ALTER TABLE cases ADD COLUMN offering INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE cases ADD COLUMN offer_number INTEGER",
    "ALTER TABLE cases ADD COLUMN offer_path TEXT",
    "CREATE UNIQUE INDEX cases_offering ON cases (case_id) WHERE offering",
)


def _keep_offers_with_their_case(database: Any) -> None:
    for statement in _OFFERS:
        database.execute(statement)


MIGRATIONS: Final[tuple[Callable[[Any], None], ...]] = (
    _create,
    _add_documents,
    _let_compensating_cases_work,
    _keep_offers_with_their_case,
)
"""Each takes a `sqlite_utils.Database` inside a transaction; the n-th makes version n."""

SCHEMA_VERSION: Final = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, application_id: int = APPLICATION_ID) -> None:
    """Bring a file up to `SCHEMA_VERSION`, one transaction each; another process may be doing the same."""
    # PERF: imported here, where a file is new or old, because importing it takes 0.4 s and most starts find a current file.
    database = importlib.import_module("sqlite_utils").Database(
        connection, recursive_triggers=False, execute_plugins=False
    )
    while _migrate_once(connection, database, application_id):
        pass


def _migrate_once(connection: sqlite3.Connection, database: Any, application_id: int) -> bool:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read inside the transaction: whoever held the lock before us may have migrated.
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version < SCHEMA_VERSION:
            MIGRATIONS[version](database)
            connection.execute(f"PRAGMA application_id = {application_id}")
            connection.execute(f"PRAGMA user_version = {version + 1}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return version < SCHEMA_VERSION
