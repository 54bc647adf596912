"""``knhk verify``: what keeps a specification from being run."""

from __future__ import annotations

from typing import Any

import click

from knhk.cli.failures import NO, reading
from knhk.cli.options import json_option
from knhk.cli.output import Slow, clean, counted, say, say_fields, say_json
from knhk.engine import Engine
from knhk.errors import SpecificationError
from knhk.spec import Specification


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@json_option
def verify(files: tuple[str, ...], *, as_json: bool) -> None:
    """
    Say whether specifications are well-formed.

    Every problem is named with its place; also a problem is what this version cannot run. Well-formed does not mean sound: whether every case can complete is
    not looked at by this version.
    """
    good = True
    for file in files:
        with Slow(f"verifying {file}"):
            document = _verdict(file)
        good = good and document["well_formed"] and not document["problems"]
        if as_json:
            say_json(document)
        else:
            _say(document)
    if not good:
        raise click.exceptions.Exit(NO)


def _verdict(file: str) -> dict[str, Any]:
    try:
        with reading(file):
            specification = Specification.load(file)
    except SpecificationError as error:
        return {"file": file, "well_formed": False, "problems": _problems(error)}
    nets = specification.nets().values()
    document = {
        "file": file,
        "well_formed": True,
        "problems": [],
        "specification": specification.id,
        "version": specification.version,
        "tasks": sum(len(net.tasks) for net in nets),
        "conditions": sum(len(net.conditions) for net in nets),
        "flows": sum(len(net.flows) for net in nets),
        "subnets": len(specification.subnets),
        "content_hash": specification.content_hash,
    }
    try:
        with Engine("memory:") as engine:
            engine.register(specification)
    except SpecificationError as error:
        document["problems"] = _problems(error)
    return document


def _problems(error: SpecificationError) -> list[dict[str, str]]:
    return [{"place": each.place, "message": each.message} for each in error.problems]


def _say(document: dict[str, Any]) -> None:
    file, problems = clean(document["file"]), document["problems"]
    if not document["well_formed"]:
        say(f"{file}: not well-formed, {counted(len(problems), 'problem')}")
    elif problems:
        say(f"{file}: well-formed, but this version cannot run it, {counted(len(problems), 'problem')}")
    else:
        say(f"{file}: well-formed")
    for each in problems:
        say(clean(f"  {each['place']}: {each['message']}" if each["place"] else f"  {each['message']}"))
    if document["well_formed"] and not problems:
        counts = [counted(document[f"{each}s"], each) for each in ("task", "condition", "flow", "subnet")]
        say_fields(
            [
                ("  id", clean(f"{document['specification']} {document['version']}")),
                ("  has", ", ".join(counts)),
                ("  content", f"sha256 {document['content_hash']}"),
            ]
        )
