"""``knhk worker``: external work of a service, done by the user's functions in this process."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

import click

from knhk.cli.failures import USAGE, Failure
from knhk.cli.handlers import Handlers
from knhk.cli.output import clean, note
from knhk.cli.remote import connected, server_option
from knhk.client import Worker

_SPAN = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("modules", nargs=-1, required=True, metavar="MODULE_OR_FILE...")
@server_option(required=True)
@click.option("--topic", "topics", multiple=True, metavar="NAME", help="Only work of this topic. May be repeated.")
@click.option("--name", default="", metavar="NAME", help="Who does it, for the history; else host and process.")
@click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True, help="How much is done at once.")
@click.option(
    "--lease", type=_SPAN, default=30.0, show_default=True, help="Seconds after which a dead worker is replaced."
)
@click.option("--drain", type=_SPAN, default=30.0, show_default=True, help="Seconds for what runs to end at SIGTERM.")
def worker(
    *,
    modules: tuple[str, ...],
    servers: tuple[str, ...],
    token_file: str | None,
    topics: tuple[str, ...],
    **how: Any,
) -> None:
    """
    Do external work of a service until SIGTERM.

    The Python files or modules have HANDLERS = {topic: function}, or register(worker) that uses @worker.task(topic).
    At SIGTERM or Ctrl-C nothing more is taken, what runs may end, and what does not is given back; a second one ends at once.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    given = Handlers(modules)
    with connected(servers, token_file) as client:
        made = Worker(client, **how)
        given.give_worker(made)
        unknown = [each for each in topics if each not in made.topics]
        if unknown or not made.topics:
            there = ", ".join(made.topics) or "none"
            raise Failure(clean(f"no function does the work of topic {', '.join(unknown)}; there are: {there}"), USAGE)
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: _stop(made))
        note(clean(f"{made.name} works for {', '.join(servers)} on {', '.join(topics or made.topics)}"))
        made.run(*topics)
    note("ended")


def _stop(worker: Worker) -> None:
    """Let a worker end; the next signal ends the process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Not here: the thread that the signal interrupts may have what `stop` waits for, or be writing a line.
    threading.Thread(target=_say_and_stop, args=(worker,)).start()


def _say_and_stop(worker: Worker) -> None:
    note("takes no more work, and ends when what runs has ended; a second signal ends it now")
    worker.stop()
