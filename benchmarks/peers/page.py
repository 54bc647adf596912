"""The documentation page of a comparison: the same comparison gives the same text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.page import table
from benchmarks.peers.environments import Peer

INTRODUCTION = """\
# Other engines

This page is written by `python -m benchmarks peers --page docs/reference/peers.md` from one run on one machine.
Each engine runs in a process and a virtual environment of its own, the way its own documentation uses it.
They take turns: a round asks each for a slice of the same work.
A figure is the best of the slices, with the median beside it.
A case is created and run to its end, and its tasks call Python functions that do nothing.
A ratio above 1 means that the engine needs that many times what KNHK needs, below 1 that it is ahead.
Idle cases wait for a person.
A restart lasts until the waiting work of all open cases is listed and one piece of it done, in a process that has the engine imported."""


def peers_page(
    where: Mapping[str, str],
    peers: Iterable[Peer],
    tables: Iterable[tuple[str, Sequence[str], Iterable[Sequence[str]]]],
    versions: Mapping[str, str],
) -> str:
    """Return the page, in MyST."""
    lines = [
        *INTRODUCTION.splitlines(),
        "",
        "## The run",
        "",
        *table(("", ""), where.items()),
        "",
        *table(("engine", "version", "licence", "used as described in"), _engines(peers, versions)),
    ]
    for caption, head, rows in tables:
        lines += ["", f"## {caption}", "", *table(head, rows)]
    return "\n".join(lines) + "\n"


def _engines(peers: Iterable[Peer], versions: Mapping[str, str]) -> Iterable[Sequence[str]]:
    for peer in peers:
        wanted = " ".join(peer.requirements)
        yield peer.name, versions.get(peer.name, f"not measured ({wanted})"), peer.licence, peer.documentation
