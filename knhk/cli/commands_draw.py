"""``knhk draw``: a picture of a specification from a file, or of a case in a store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, Literal, get_args

import click

from knhk.cli.failures import NOT_FOUND, USAGE, Failure, reading
from knhk.cli.session import opened
from knhk.errors import SpecificationError
from knhk.formats import frequencies
from knhk.spec import Specification
from knhk.spec.files import READERS
from knhk.spec.specification import PictureFormat

Overlay = Literal["tokens", "history", "frequencies", "none"]

_SUFFIXES: Final[dict[str, PictureFormat]] = {
    ".svg": "svg",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
}


@click.command()
@click.argument("what", metavar="FILE|CASE")
@click.option(
    "--format",
    "language",
    type=click.Choice(get_args(PictureFormat)),
    help="Without it the suffix of --output says it; else svg, which needs knhk[draw].",
)
@click.option("--output", metavar="PATH", help="Write the picture there instead of to stdout.")
@click.option(
    "--db",
    metavar="PATH",
    envvar="KNHK_DB",
    show_envvar=True,
    help="The SQLite file with the cases, for a CASE or for frequencies.",
)
@click.option(
    "--overlay",
    type=click.Choice(get_args(Overlay)),
    help="What lies on the nets: of a CASE where it is (tokens, the default) or what happened in it (history); of a FILE how "
    "often that happened in all its cases (frequencies).",
)
@click.option("--net", metavar="NAME", help='Only this net; "" is the root net.')
def draw(
    what: str,
    *,
    language: PictureFormat | None,
    output: str | None,
    db: str | None,
    overlay: Overlay | None,
    net: str | None,
) -> None:
    """
    Draw a specification, or a case.

    The picture has the nets of the specification in FILE (JSON or YAML), or those of a CASE with its tokens or its history. A FILE
    is what ends in .json, .yaml or .yml; everything else names a case of the store that --db names. With --overlay frequencies the
    nets of a FILE show how often its tasks and flows were taken in the cases of that version in the store.
    """
    chosen = language or _of_suffix(output)
    try:
        if Path(what).suffix.lower() in READERS:
            picture = _file(what, db, chosen, overlay, net)
        else:
            picture = _case(what, db, chosen, overlay or "tokens", net)
    except SpecificationError:
        raise
    except ValueError as error:
        raise Failure(f"cannot draw {what}: {error}", USAGE) from error
    if output is None:
        sys.stdout.write(picture)
        return
    try:
        Path(output).write_text(picture, encoding="utf-8", newline="\n")
    except OSError as error:
        raise Failure(f"cannot write {output}: {error.strerror or error}", NOT_FOUND) from error


def _of_suffix(output: str | None) -> PictureFormat:
    if output is None:
        return "svg"
    suffix = Path(output).suffix.lower()
    if suffix not in _SUFFIXES:
        raise Failure(f"cannot tell from {output!r} what to draw: give --format, or {', '.join(_SUFFIXES)}", USAGE)
    return _SUFFIXES[suffix]


def _file(file: str, db: str | None, language: PictureFormat, overlay: Overlay | None, net: str | None) -> str:
    if overlay not in (None, "none", "frequencies"):
        raise Failure(f"--overlay {overlay} is for a case: a specification has none", USAGE)
    with reading(file):
        specification = Specification.load(file)
    if overlay != "frequencies":
        return specification.draw(language, net=net)
    if db is None:
        raise Failure("--overlay frequencies counts cases of a store: give --db PATH", USAGE)
    with opened(db, as_json=False) as session:
        engine = session.engine
        headers = engine.cases(spec_id=specification.id)
        histories = (
            engine.case(each.case_id).history() for each in headers if each.spec_version == specification.version
        )
        return specification.draw(language, net=net, frequencies=frequencies(specification, histories))


def _case(case: str, db: str | None, language: PictureFormat, overlay: Overlay, net: str | None) -> str:
    if overlay == "frequencies":
        raise Failure("--overlay frequencies is for a file: one case has a history", USAGE)
    if db is None:
        raise Failure(f"{case!r} is no .json, .yaml or .yml file; for a case give --db PATH", USAGE)
    with opened(db, as_json=False) as session:
        return session.case(case).draw(language, overlay=overlay, net=net)
