"""``knhk verify``: what keeps a specification from being run, and whether its cases can complete."""

from __future__ import annotations

from typing import Any

import click

from knhk.analysis import Budget, SoundnessProblem, Verdict
from knhk.cli.failures import NO, UNDECIDED, reading
from knhk.cli.options import data_option, json_option
from knhk.cli.output import Slow, clean, counted, json_text, say, say_fields, say_json
from knhk.engine import Engine
from knhk.errors import SpecificationError
from knhk.spec import Specification

_DEFAULT = Budget()


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@data_option("Case data, taken as constant: predicates that it decides are decided. Without it all are free choices")
@click.option(
    "--states", type=click.IntRange(min=1), default=_DEFAULT.states, show_default=True, help="States to look at."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=_DEFAULT.seconds,
    show_default=True,
    help="Time to take, about.",
)
@json_option
def verify(files: tuple[str, ...], *, data: dict[str, Any] | None, states: int, seconds: float, as_json: bool) -> None:
    """
    Say whether specifications are well-formed and sound.

    Every problem is named with its place; also a problem is what this version cannot run. Sound means: from every state
    the end can be reached, nothing is left when it is, every task can start, and no condition can hold ever more tokens.
    What is not sound is shown with the shortest run that leads there. Undecided is what takes more than the budget.
    """
    budget = Budget(states=states, seconds=seconds)
    code = 0
    for file in files:
        with Slow(f"verifying {file}"):
            document, verdict = _look(file, data, budget)
        if as_json:
            say_json(document)
        else:
            _say(document, verdict)
        if verdict is None or verdict.verdict == "unsound":
            code = NO
        elif verdict.verdict == "undecided":
            code = code or UNDECIDED
    if code:
        raise click.exceptions.Exit(code)


def _look(file: str, data: dict[str, Any] | None, budget: Budget) -> tuple[dict[str, Any], Verdict | None]:
    try:
        with reading(file):
            specification = Specification.load(file)
    except SpecificationError as error:
        return {"file": file, "well_formed": False, "problems": _problems(error)}, None
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
        return document, None
    verdict = specification.verify(data=data, budget=budget)
    document["soundness"] = verdict.to_dict()
    return document, verdict


def _problems(error: SpecificationError) -> list[dict[str, str]]:
    return [{"place": each.place, "message": each.message} for each in error.problems]


def _say(document: dict[str, Any], verdict: Verdict | None) -> None:
    file, problems = clean(document["file"]), document["problems"]
    if not document["well_formed"]:
        say(f"{file}: not well-formed, {counted(len(problems), 'problem')}")
    elif verdict is None:
        say(f"{file}: well-formed, but this version cannot run it, {counted(len(problems), 'problem')}")
    else:
        found = f", {counted(len(verdict.problems), 'problem')}" if verdict.problems else ""
        say(f"{file}: well-formed, {verdict.verdict}{found}")
    for each in problems:
        say(clean(f"  {each['place']}: {each['message']}" if each["place"] else f"  {each['message']}"))
    if verdict is not None:
        _say_verdict(document, verdict)


def _say_verdict(document: dict[str, Any], verdict: Verdict) -> None:
    for problem in verdict.problems:
        _say_problem(problem)
    for reason in verdict.reasons:
        say(clean(f"  not decided: {reason}"))
    for warning in verdict.warnings:
        say(clean(f"  warning: {warning.place}: {warning.message}"))
    counts = [counted(document[f"{each}s"], each) for each in ("task", "condition", "flow", "subnet")]
    looked = "none, its structure tells" if verdict.structural else f"{verdict.states:,}"
    bound = "" if verdict.bound is None else f", at most {counted(verdict.bound, 'token')} in a condition"
    say_fields(
        [
            ("  id", clean(f"{document['specification']} {document['version']}")),
            ("  has", ", ".join(counts)),
            ("  states", f"{looked}, in {verdict.seconds:.3f} s{bound}"),
            ("  content", f"sha256 {document['content_hash']}"),
        ]
    )


def _say_problem(problem: SoundnessProblem) -> None:
    place = f"{problem.net}/{problem.element}" if problem.net else problem.element
    say(clean(f"  {problem.kind.value}: {place}: {problem.message}"))
    for number, step in enumerate(problem.trace, 1):
        say(clean(f"    {number:>2}  {step}"))
    if problem.trace or problem.marking:
        running = f", running: {', '.join(problem.running)}" if problem.running else ""
        say(clean(f"    =>  {json_text(dict(problem.marking))}{running}"))
