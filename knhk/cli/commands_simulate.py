"""``knhk simulate``: many cases of a specification from a file, in a world of shared resources."""

from __future__ import annotations

import click

from knhk.analysis import SimulationModel
from knhk.analysis import simulate as run_simulation
from knhk.cli.failures import NOT_FOUND, USAGE, Failure, reading
from knhk.cli.options import json_option
from knhk.cli.output import Slow, clean, note, say, say_json, say_table
from knhk.spec import Specification


@click.command()
@click.argument("file")
@click.option("--model", metavar="MODEL", help="JSON or YAML file with durations, probabilities, arrivals, resources.")
@click.option(
    "--cases", default=10_000, show_default=True, metavar="N", type=click.IntRange(min=1), help="How many cases."
)
@click.option("--seed", default=1, show_default=True, metavar="S", type=int, help="Another seed, other random numbers.")
@click.option(
    "--warm-up",
    default=0,
    show_default=True,
    metavar="N",
    type=click.IntRange(min=0),
    help="Play the first N cases without measuring them.",
)
@click.option("--plot", metavar="FILE", help="Draw the figures into FILE (.png, .svg, .pdf); needs knhk[plot].")
@json_option
def simulate(
    file: str, *, model: str | None, cases: int, seed: int, warm_up: int, plot: str | None, as_json: bool
) -> None:
    """
    Simulate cases of the specification in FILE (JSON or YAML).

    Prints throughput times, where the tasks' time goes, how busy the resources are, and what was assumed because the model
    does not say it.
    """
    if warm_up >= cases:
        raise Failure(f"--warm-up {warm_up} leaves none of the {cases} cases to measure", USAGE)
    with reading(file):
        specification = Specification.load(file)
    assumptions = SimulationModel()
    if model is not None:
        with reading(model):
            assumptions = SimulationModel.load(model)
    elif not as_json:
        note("no --model: work takes no time, branches are equally likely, nothing is limited")
    with Slow(f"simulating {file}") as slow:

        def progress(ended: int) -> None:
            slow.describe(f"simulating {file}: {ended:,} of {cases:,} cases, {100 * ended // cases} %")

        report = run_simulation(specification, assumptions, cases=cases, seed=seed, warm_up=warm_up, progress=progress)
        if plot is not None:
            slow.describe(f"drawing {plot}")
            try:
                report.plot(plot)
            except OSError as error:
                raise Failure(f"cannot write {plot}: {error.strerror or error}", NOT_FOUND) from error
            except ValueError as error:
                raise Failure(f"cannot draw {plot}: {error}", USAGE) from error
    if as_json:
        say_json({**report.to_dict(), "cases_per_second": round(report.cases_per_second)})
        return
    say(clean(report.headline()))
    for headings, rows in report.tables():
        say()
        say_table(headings, rows)
    say()
    say(clean(report.bottleneck_line()))
    if report.defaults:
        say()
        say("assumed, as the model does not say:")
        for each in report.defaults:
            say(clean(f"  {each}"))
    note(f"{report.cases_per_second:,.0f} cases a second")
