"""
The command line: ``knhk --help``.

The map, from below: `failures` errors as messages and exit codes; `output` tables, JSON, times and progress; `options` what
the commands have in common; `handlers` the user's functions; `session` an engine on a store, and names abbreviated;
`report` what a case looks like; `driving` moves a case and tells what came of it; `commands_*` the commands; `app` all of
them together.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TextIO

from knhk.errors import MissingExtra

_NEEDED = frozenset({"click", "rich"})


def main() -> None:
    """Run the command line; without the libraries of the extra ``cli``, say how to install them and exit with 2."""
    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_encode(stream)
    try:
        app = import_module("knhk.cli.app")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write(f"Error: {MissingExtra('cli', 'the command line')}\n")
        sys.exit(2)
    app.knhk()


def _never_fail_to_encode(stream: TextIO) -> None:
    """Print what a terminal's encoding cannot show as an escape, rather than fail."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
