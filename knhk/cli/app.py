"""All commands together."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import click

from knhk.cli.commands_cases import cancel, cases, event, resume, show, suspend, tick
from knhk.cli.commands_dead_letters import dead_letters
from knhk.cli.commands_doctor import doctor
from knhk.cli.commands_draw import draw
from knhk.cli.commands_instances import instances
from knhk.cli.commands_migrate import migrate
from knhk.cli.commands_patterns import patterns
from knhk.cli.commands_replay import replay_log
from knhk.cli.commands_run import run
from knhk.cli.commands_serve import audit, config, serve, token
from knhk.cli.commands_simulate import simulate
from knhk.cli.commands_store import store
from knhk.cli.commands_verify import verify
from knhk.cli.commands_work import work
from knhk.cli.commands_worker import worker
from knhk.cli.failures import EXIT_CODES, translated
from knhk.cli.options import InOrder

_NAMES = (
    "A case is named by its id, or by a beginning, an end or another part of the id that no other case has."
    " Errors go to stderr; with --json, stdout has JSON only: one document, or for lists one a line."
)
_EPILOG = "\n\n".join(
    [
        "\b\n" + "\n".join(["Exit codes:", *(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())]),
        _NAMES,
    ]
)


class _Commands(InOrder):
    """The commands, with KNHK's errors as messages."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with translated():
            return super().invoke(ctx)


@click.group(cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("knhk"), prog_name="knhk", message="%(prog)s %(version)s")
def knhk() -> None:
    """Run, look at and steer workflow cases."""


for _command in (
    run,
    verify,
    draw,
    simulate,
    replay_log,
    patterns,
    cases,
    show,
    work,
    worker,
    dead_letters,
    event,
    tick,
    resume,
    suspend,
    cancel,
    migrate,
    store,
    serve,
    instances,
    doctor,
    token,
    config,
    audit,
):
    knhk.add_command(_command)
