"""The URL of a PostgreSQL store: what of it is KNHK's, and what goes to libpq."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import attrs

from knhk.errors import MissingExtra, StoreError

try:
    import psycopg
    import psycopg.generators
    from psycopg.conninfo import conninfo_to_dict
except ImportError as error:
    raise MissingExtra("postgres", "a store on PostgreSQL") from error

__all__ = ["Address", "parse", "psycopg"]

_PORTS: Final = re.compile(r"[0-9,]*")
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_MOST_CONNECTIONS: Final = 1_000
_LONGEST: Final = 3_600.0


@attrs.frozen
class Address:
    """
    Where a store is, and how it is spoken to.

    Args:
        parameters: what libpq is told, a password included.
        schema: the schema of its tables.
        connections: how many it has open at most.
        timeout: seconds that it waits for a connection, for a lock, and for an answer that got lost.
    """

    parameters: dict[str, Any] = attrs.field(repr=False)
    schema: str
    connections: int
    timeout: float

    @property
    def named(self) -> str:
        """The store for messages: without user and password."""
        host = self.parameters.get("host") or self.parameters.get("hostaddr") or "local"
        port = self.parameters.get("port")
        place = f"{host}:{port}" if port else host
        return f"PostgreSQL at {place}, database {self.parameters.get('dbname') or '(default)'}, schema {self.schema!r}"


def parse(url: str) -> Address:
    """
    Read a URL ``postgresql://...``; raises StoreError, whose message has nothing of the URL that may be a password.

    `schema` (default ``knhk``), `connections` (8) and `timeout` (5, in seconds) are KNHK's; every other parameter is libpq's.
    """
    base, _, query = url.partition("?")
    if "#" in url:
        raise StoreError("a PostgreSQL URL has no part behind '#': write %23 where the password has one")
    given = parse_qsl(query, keep_blank_values=True)
    own = {"schema": "knhk", "connections": "8", "timeout": "5"}
    own.update((name, value) for name, value in given if name in own)
    rest = [(name, value) for name, value in given if name not in own]
    try:
        parameters = conninfo_to_dict(f"{base}?{urlencode(rest)}" if rest else base)
    except psycopg.ProgrammingError:
        parameters = {}
    database = base.partition("://")[2].partition("/")[2]
    port = str(parameters.get("port") or "")
    if not parameters or "@" in database or "/" in database or _PORTS.fullmatch(port) is None:
        # What libpq says may show a part of the password, and so may what it takes for a database.
        raise StoreError(
            "the PostgreSQL URL is not understood: write postgresql://user:password@host:port/database?parameter=value "
            "with parameters that libpq knows, and each of @ / : ? # % in the password as %40 %2F %3A %3F %23 %25"
        )
    if _SCHEMA.fullmatch(own["schema"]) is None or own["schema"].startswith("pg_"):
        raise StoreError(
            f"the schema {own['schema']!r} of a PostgreSQL URL is refused: "
            "it is of small letters, digits and _, begins with no digit and not with pg_, and has at most 63 characters"
        )
    connections = _number("connections", own["connections"], _MOST_CONNECTIONS)
    if connections != int(connections):
        raise StoreError(f"connections={own['connections']} of a PostgreSQL URL is no whole number")
    timeout = _number("timeout", own["timeout"], _LONGEST)
    defaults = {
        "application_name": "knhk",
        "client_encoding": "UTF8",
        # Seconds; libpq takes whole ones, and 1 as 2.
        "connect_timeout": str(max(2, round(timeout))),
        # A server that is gone without a word is noticed.
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
    }
    return Address({**defaults, **parameters}, own["schema"], int(connections), timeout)


def _number(name: str, text: str, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= most:
        raise StoreError(f"{name}={text} of a PostgreSQL URL is refused: it is a number above 0 and up to {most:g}")
    return number
