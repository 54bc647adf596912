"""``knhk store``: copy, check and back up stores."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import attrs
import click

from knhk.checking import check_store
from knhk.cli.failures import NO, USAGE, Failure
from knhk.cli.options import InOrder, json_option
from knhk.cli.output import Slow, clean, note, say, say_json
from knhk.cli.session import MEMORY, check_there
from knhk.ports import Store
from knhk.stores import SqliteStore, open_store, without_password
from knhk.stores.copying import copy_store


@click.group("store", cls=InOrder)
def store() -> None:
    """Copy, check and back up stores. Each is named by its URL, as in --db."""


@store.command("copy")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@json_option
def copy(*, source: str, target: str, as_json: bool) -> None:
    """
    Copy everything from one store to another, and compare them.

    Nobody may use either meanwhile. A copy that was stopped goes on when the same is run again; a target that holds
    anything else is refused.
    """
    if without_password(source) == without_password(target):
        raise Failure("both are the same store", USAGE)
    if MEMORY in {source, target}:
        raise Failure("a store in memory ends with this command: give another URL", USAGE)
    with _opened(source) as old, closing(open_store(target)) as new, Slow("copying", aside=as_json) as slow:
        found = copy_store(old, new, name=_name(source), tell=slow.describe)
    if as_json:
        say_json(attrs.asdict(found))
        return
    say(f"{', '.join(f'{count:,} {kind}' for kind, count in found.counts.items())}: both hold the same")


@store.command("verify")
@click.argument("url", metavar="URL")
@json_option
def verify(*, url: str, as_json: bool) -> None:
    """
    Read every case of a store: checksums, and whether the history gives what the store tells of it.

    The exit code is 1 where something is wrong with a case.
    """
    seen = wrong = 0
    with _opened(url) as kept, Slow("reading", aside=as_json) as slow:

        def tell(number: int) -> None:
            nonlocal seen
            seen = number
            if number % 100 == 0:
                slow.describe(f"{number:,} cases read")

        for finding in check_store(kept, tell):
            wrong += 1
            if as_json:
                say_json(attrs.asdict(finding))
            else:
                say(f"{clean(finding.case_id)}: {'set aside: ' if finding.aside else ''}{clean(finding.reason)}")
    if not as_json:
        note(f"{seen:,} cases read, {wrong:,} with something wrong")
    if wrong:
        raise click.exceptions.Exit(NO)


@store.command("backup")
@click.argument("url", metavar="URL")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
def backup(*, url: str, file: Path) -> None:
    """
    Write an SQLite file as it is at one moment to another file, while it is in use.

    Servers have their own ways, and a log is its directory: this says which.
    """
    with _opened(url) as kept:
        if not isinstance(kept, SqliteStore) or _is_log(kept):
            raise Failure(f"no backup of {clean(without_password(url))} is made this way: {_ways(kept)}", USAGE)
        if file.exists():
            raise Failure(f"{file} is there already: give another file", USAGE)
        _back_up(kept, file)
    say(f"{file} holds what the store held")


def _back_up(kept: SqliteStore, file: Path) -> None:
    part = file.with_name(f"{file.name}.part")
    part.unlink(missing_ok=True)
    try:
        uri = f"{Path(kept.path).as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)
            found = target.execute("PRAGMA integrity_check").fetchone()[0]
        if found != "ok":
            raise Failure(f"the copy is damaged: {clean(str(found))}", NO)
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)


def _is_log(kept: Store) -> bool:
    # By its name, as not every system has the module.
    return type(kept).__name__ == "LogStore"


def _ways(kept: Store) -> str:
    if _is_log(kept):
        return "stop whoever has it open, and copy the directory"
    name = type(kept).__name__
    ways = {
        "PostgresStore": "pg_dump --schema=SCHEMA, or whatever backs up the server",
        "EtcdStore": "etcdctl snapshot save FILE",
        "RedisStore": "copy the server's append-only file, or use BGSAVE and copy the snapshot",
    }
    return ways.get(name, "use what backs up the server") + "; or knhk store copy to a file"


def _name(url: str) -> str:
    """Return what a source is called in its copy: the same each time, and without a password."""
    path = url.removeprefix("sqlite:///")
    told = without_password(url) if ":" in path else str(Path(path).absolute())
    return f"{told.partition('?')[0]} {hashlib.sha256(told.encode()).hexdigest()[:12]}"


@contextmanager
def _opened(url: str) -> Iterator[Store]:
    """Open a store that is there."""
    check_there(url)
    with closing(open_store(url, create=False)) as kept:
        yield kept
