"""The peers, each pinned, and the virtual environment of each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parent.parent.parent


@attrs.frozen
class Peer:
    """
    An engine to compare with.

    Args:
        name: as people know it.
        module: its worker, in this package.
        requirements: what to install, pinned; empty for KNHK, which runs where it is.
        licence: of the engine, which is run as a program of its own and never imported by KNHK.
        documentation: where its use, as the worker has it, is described.
        arguments: for the worker.
    """

    name: str
    module: str
    requirements: tuple[str, ...]
    licence: str
    documentation: str
    arguments: tuple[str, ...] = ()


KNHK = Peer("KNHK", "knhk", (), "MIT", "docs/tutorial")
_DBOS = ("dbos==3.4.0",)
PEERS = (
    Peer(
        "SpiffWorkflow",
        "spiffworkflow",
        ("SpiffWorkflow==3.2.0",),
        "LGPL-3.0",
        "https://spiffworkflow.readthedocs.io/en/stable/core/index.html",
    ),
    Peer("DBOS", "dbos", _DBOS, "MIT", "https://docs.dbos.dev/python/programming-guide"),
    Peer("DBOS, WAL", "dbos", _DBOS, "MIT", "https://docs.dbos.dev/python/programming-guide", ("wal",)),
    Peer("sayiir", "sayiir", ("sayiir==1.0.0",), "MIT", "the README of sayiir 1.0.0"),
    Peer(
        "pm4py",
        "pm4py",
        ("pm4py==2.7.23.11",),
        "AGPL-3.0",
        "https://processintelligence.solutions/pm4py/examples/petri-net-management/",
    ),
    Peer(
        "transitions",
        "transitions",
        ("transitions==0.9.3",),
        "MIT",
        "https://github.com/pytransitions/transitions#readme",
    ),
    Peer(
        "LangGraph",
        "langgraph",
        ("langgraph==1.2.24", "langgraph-checkpoint-sqlite==3.1.2"),
        "MIT",
        "https://docs.langchain.com/oss/python/langgraph/persistence",
    ),
)


class Unavailable(Exception):
    """The peer cannot be had here; the message says why."""


def python_of(peer: Peer, cache: Path) -> Path:
    """
    Return the interpreter of a peer's environment, which is built where it is missing or has other versions.

    Raises:
        Unavailable: it cannot be installed.
    """
    if not peer.requirements:
        return Path(sys.executable)
    home = cache.resolve() / peer.module
    python, stamp = home / "bin" / "python", home / "requirements.txt"
    wanted = "\n".join(peer.requirements) + "\n"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted and python.exists():
        return python
    _run([sys.executable, "-m", "venv", "--clear", str(home)], f"no environment for {peer.name}")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *peer.requirements], f"{' '.join(peer.requirements)} cannot be installed")
    stamp.write_text(wanted, encoding="utf-8")
    return python


def command_of(peer: Peer, python: Path) -> Sequence[str]:
    """Return the command that starts a peer's worker, to be run in `ROOT`."""
    return [str(python), "-m", f"benchmarks.peers.{peer.module}", *peer.arguments]


def _run(command: Sequence[str], failing: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - commands of our own
    if done.returncode:
        lines = [each for each in (done.stderr or done.stdout).splitlines() if each.strip()]
        reason = next(
            (each for each in reversed(lines) if "ERROR" in each or "error" in each), lines[-1] if lines else ""
        )
        raise Unavailable(f"{failing}: {reason.strip() or f'exit status {done.returncode}'}")
