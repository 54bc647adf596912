"""Documents in SQLite: the statements, on a connection inside a transaction of `SqliteStore`."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from typing import Any, Final

from knhk.ports import Document
from knhk.stores.memory import overtaken, taken_over

_CREATE: Final = (
    "INSERT INTO documents (collection, key, value, due, version) VALUES (?1, ?2, ?3, ?4, ?5)"
    " ON CONFLICT (collection, key) DO NOTHING"
)
_CHANGE: Final = (
    "UPDATE documents SET value = ?3, due = ?4, version = ?5 WHERE collection = ?1 AND key = ?2 AND version = ?5 - 1"
)
_REMOVE: Final = "DELETE FROM documents WHERE collection = ? AND key = ? AND version = ?"
_HOLDS: Final = "SELECT 1 FROM documents WHERE collection = ? AND key = ? AND version = ?"
_SELECT: Final = "SELECT collection, key, value, due, version FROM documents WHERE collection = ?1"
FIND: Final = f"{_SELECT} AND key = ?2"
BY_KEY: Final = f"{_SELECT} AND key > ?2 AND key >= ?3 AND (?4 IS NULL OR key < ?4) ORDER BY key LIMIT ?5"
BY_DUE: Final = f"{_SELECT} AND due IS NOT NULL AND due <= ?2 ORDER BY due, key LIMIT ?3"
COLLECTIONS: Final = (
    # From one name to the next by the index, so that what a collection holds is not looked at.
    "WITH RECURSIVE names (name) AS (SELECT min(collection) FROM documents UNION ALL"
    " SELECT (SELECT min(collection) FROM documents WHERE collection > name) FROM names WHERE name IS NOT NULL)"
    " SELECT name FROM names WHERE name IS NOT NULL"
)
_LAST_BEFORE_SURROGATES: Final = 0xD7FF
_FIRST_AFTER_SURROGATES: Final = 0xE000


def check_held(connection: sqlite3.Connection, held: Sequence[Document]) -> None:
    """Raise OwnershipLost where one is not stored as it was read; the transaction has the write lock, so it stays so."""
    for each in held:
        values = (each.collection, each.key, each.version)
        if each.version < 1 or connection.execute(_HOLDS, values).fetchone() is None:
            raise taken_over(each)


def store_documents(connection: sqlite3.Connection, documents: Sequence[Document], removed: Sequence[Document]) -> None:
    """Write and remove; raises ConcurrentUpdate where another version is stored: the caller undoes the transaction."""
    for each in documents:
        statement = _CREATE if each.version == 1 else _CHANGE
        values = (each.collection, each.key, each.value, each.due, each.version)
        if connection.execute(statement, values).rowcount != 1:
            raise overtaken(each, each.version - 1)
    for each in removed:
        if connection.execute(_REMOVE, (each.collection, each.key, each.version)).rowcount != 1:
            raise overtaken(each, each.version)


def read_document(row: Sequence[Any]) -> Document:
    """Return a row as a document."""
    return Document(collection=row[0], key=row[1], value=row[2], due=row[3], version=row[4])


def after_prefix(prefix: str) -> str | None:
    """Return the first key behind all those that begin with the prefix, by code points; None: there is none."""
    head = prefix.rstrip(chr(sys.maxunicode))
    if not head:
        return None
    last = ord(head[-1])
    return head[:-1] + chr(_FIRST_AFTER_SURROGATES if last == _LAST_BEFORE_SURROGATES else last + 1)
