"""
The schema of the PostgreSQL store, and how an older one becomes a current one.

The tables are those of the SQLite store (`knhk.stores.migrations` says why they are so), with what a server needs besides.
Every text that is listed in order has the collation "C", whose order of UTF-8 is that of code points, whatever the database's.
`writers` has a row for each store that writes: the number of its last transaction, and whom of its callers that refused.
A store that loses its connection while it waits for an answer reads there whether the transaction stands (`SETTLE`).

All writing of steps and documents goes through functions: one call, one transaction, one round trip, so that no client that is
paused holds a lock.
Nearly all are plain steps (`knhk.stores._postgres_steps`), which functions of their own store by few statements, all of them or
none: `store_step_3` and `store_steps_3` (`knhk.stores._postgres_offers`; before these it was `store_2`).
Everything else, and what they refuse, goes through `store_1`.
That looks first (what is held, the versions, the keys), leaves out the callers that are refused, and writes those of the others.
What changes between the look and the write, by another session, raises `RACED`, and the whole is tried again.
Rows are locked in the order of their names, so that two sessions do not wait for each other.
Plans may not depend on how large the tables were when a session began, so all are told to go by the indexes.

`schema_version` holds the number of migrations that the schema has seen.
Each migration is one transaction together with its number: whatever is killed in it leaves the schema as it was.
A published migration is never changed; a new one is added at the end, and a function that is called in another way gets a new
name, so that an older KNHK which is still running goes on with its own.
"""

from __future__ import annotations

from typing import Any, Final

from knhk.stores._postgres_functions import STORE, STORE_STEPS
from knhk.stores._postgres_offers import OFFERS

RACED: Final = "KN001"
"""SQLSTATE: another session was faster; nothing is written, try again."""

UNKNOWN_WRITER: Final = "KN002"
"""SQLSTATE: the writer has no row, or a later one; nothing is written."""

OUTRUN: Final = "KN003"
"""SQLSTATE: a plain step does not find its case as it expects it; nothing is written, and `store_1` says whom that concerns."""

_TABLES: Final = (
    """CREATE TABLE {s}.specifications (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        spec_id text COLLATE "C" NOT NULL,
        version text COLLATE "C" NOT NULL,
        content_hash text NOT NULL,
        text text NOT NULL,
        UNIQUE (spec_id, version))""",
    """CREATE TABLE {s}.cases (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        case_id text COLLATE "C" NOT NULL UNIQUE,
        spec bigint NOT NULL,
        state text COLLATE "C" NOT NULL,
        version bigint NOT NULL,
        due bigint,
        runnable boolean NOT NULL,
        quarantined text) WITH (fillfactor = 80)""",
    "CREATE INDEX cases_state ON {s}.cases (state, case_id)",
    "CREATE INDEX cases_spec ON {s}.cases (spec, case_id)",
    """CREATE INDEX cases_due ON {s}.cases (due, case_id)
        WHERE due IS NOT NULL AND state IN ('running', 'compensating') AND quarantined IS NULL""",
    """CREATE INDEX cases_runnable ON {s}.cases (case_id)
        WHERE runnable AND state IN ('running', 'compensating') AND quarantined IS NULL""",
    "CREATE INDEX cases_quarantined ON {s}.cases (case_id) WHERE quarantined IS NOT NULL",
    """CREATE TABLE {s}.journal (
        case_row bigint NOT NULL,
        version bigint NOT NULL,
        batch bytea NOT NULL,
        PRIMARY KEY (case_row, version))""",
    """CREATE TABLE {s}.snapshots (
        case_row bigint PRIMARY KEY,
        version bigint NOT NULL,
        state bytea NOT NULL)""",
    """CREATE TABLE {s}.items (
        case_id text COLLATE "C" NOT NULL,
        number bigint NOT NULL,
        path text NOT NULL,
        state text COLLATE "C" NOT NULL,
        by text COLLATE "C" NOT NULL,
        roles text NOT NULL,
        topic text COLLATE "C" NOT NULL,
        audience text NOT NULL,
        details text NOT NULL,
        PRIMARY KEY (case_id, number))""",
    "CREATE INDEX items_state ON {s}.items (state, case_id, number)",
    "CREATE INDEX items_by ON {s}.items (by, case_id, number) WHERE by <> ''",
    "CREATE INDEX items_topic ON {s}.items (topic, state, case_id, number) WHERE topic <> ''",
    """CREATE TABLE {s}.audiences (
        audience text COLLATE "C" NOT NULL,
        case_id text COLLATE "C" NOT NULL,
        number bigint NOT NULL,
        PRIMARY KEY (audience, case_id, number))""",
    "CREATE INDEX audiences_item ON {s}.audiences (case_id, number)",
    """CREATE TABLE {s}.documents (
        collection text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        value text NOT NULL,
        due bigint,
        version bigint NOT NULL,
        PRIMARY KEY (collection, key)) WITH (fillfactor = 80)""",
    "CREATE INDEX documents_due ON {s}.documents (collection, due, key) WHERE due IS NOT NULL",
    """CREATE TABLE {s}.idempotency (
        key text COLLATE "C" PRIMARY KEY,
        digest text NOT NULL,
        case_row bigint NOT NULL)""",
    """CREATE TABLE {s}.writers (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        transaction bigint NOT NULL,
        refused integer[] NOT NULL,
        seen timestamptz NOT NULL) WITH (fillfactor = 50)""",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = ((*_TABLES, STORE), (STORE_STEPS,), OFFERS)
"""The statements of each; ``{s}`` stands for the schema, the n-th makes version n."""

SCHEMA_VERSION: Final = len(MIGRATIONS)

WRITE: Final = "SELECT {s}.store_1(%s, %s, %s::jsonb, %b::bytea[])"
"""Write: the writer, the number of its transaction, what `knhk.stores._postgres_input` makes, and the bytes it points at."""

DUPLICATE: Final = "23505"
"""SQLSTATE: what is stored already would be stored twice; nothing is written."""

REGISTER: Final = (
    # Stores that ended without saying so leave a row; after a week nobody waits for an answer any more.
    "WITH gone AS (DELETE FROM {s}.writers WHERE seen < now() - interval '7 days')"
    " INSERT INTO {s}.writers (transaction, refused, seen) VALUES (0, '{}', now()) RETURNING id"
)
SETTLE: Final = "UPDATE {s}.writers SET transaction = %s WHERE id = %s AND transaction < %s"
"""
Find out what became of a transaction whose answer is lost: it waits for it, and where it changes a row the transaction is not
stored and never will be.
"""
REFUSED: Final = "SELECT refused FROM {s}.writers WHERE id = %s AND transaction = %s"

_EXISTS: Final = "SELECT count(*) FROM pg_namespace WHERE nspname = %s"
_VERSIONED: Final = "SELECT to_regclass(%s) IS NOT NULL"
_FOREIGN: Final = "SELECT count(*) FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = %s)"
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 4207665227))"


def within(statement: str, schema: str) -> str:
    """Return a statement with its schema, whose name is one that `knhk.stores._postgres_url` lets through."""
    return statement.replace("{s}", f'"{schema}"')


def stored_version(connection: Any, schema: str) -> int | None:
    """
    Return how many migrations a schema has seen; None: it is not there, or is empty; -1: it is another program's.

    Args:
        connection: a psycopg connection.
        schema: its name.
    """
    if not connection.execute(_EXISTS, (schema,)).fetchone()[0]:
        return None
    if not connection.execute(_VERSIONED, (f'"{schema}".schema_version',)).fetchone()[0]:
        return -1 if connection.execute(_FOREIGN, (schema,)).fetchone()[0] else None
    version: int = connection.execute(within("SELECT version FROM {s}.schema_version", schema)).fetchone()[0]
    return version


def migrate(connection: Any, schema: str) -> None:
    """Bring a schema up to `SCHEMA_VERSION`, one transaction each; another session may be doing the same."""
    while _migrate_once(connection, schema):
        pass


def _migrate_once(connection: Any, schema: str) -> bool:
    with connection.transaction():
        # Held until the transaction ends: whoever had it before us may have migrated.
        connection.execute(_LOCK, (schema,))
        version = stored_version(connection, schema)
        if version is None:
            if not connection.execute(_EXISTS, (schema,)).fetchone()[0]:
                connection.execute(within("CREATE SCHEMA {s}", schema))
            connection.execute(within("CREATE TABLE {s}.schema_version (version integer NOT NULL)", schema))
            connection.execute(within("INSERT INTO {s}.schema_version VALUES (0)", schema))
            version = 0
        if not 0 <= version < SCHEMA_VERSION:
            return False
        for statement in MIGRATIONS[version]:
            connection.execute(within(statement, schema))
        connection.execute(within("UPDATE {s}.schema_version SET version = %s", schema), (version + 1,))
    return version + 1 < SCHEMA_VERSION
