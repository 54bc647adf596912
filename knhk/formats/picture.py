"""Pictures of specifications: SVG, Mermaid and DOT, with a case's tokens, its history or frequencies on top."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, get_args

from knhk.case import Case
from knhk.events import Event
from knhk.formats._drawing import overlays, traffic
from knhk.formats._drawing.dot import dot
from knhk.formats._drawing.mermaid import mermaid
from knhk.formats._drawing.overlays import Tokens
from knhk.formats._drawing.paths import Places
from knhk.formats._drawing.scene import Panel, Scene, check, describe
from knhk.formats._drawing.style import STYLE
from knhk.formats._drawing.svg import svg
from knhk.formats._drawing.words import shortened
from knhk.spec import SpecificationData
from knhk.spec.specification import PictureFormat
from knhk.workitem import ItemState

__all__ = ("STYLE", "PictureFormat", "Tokens", "draw", "frequencies")

_WRITERS: Final = {"svg": svg, "mermaid": mermaid, "dot": dot}


def draw(
    specification: SpecificationData,
    format: PictureFormat = "svg",  # noqa: A002 - the word that users know
    *,
    net: str | None = None,
    tokens: Tokens | None = None,
    history: Iterable[Event] | None = None,
    frequencies: Mapping[str, int] | None = None,
) -> str:
    """
    Draw a specification: its root net, then each subnet.

    At most one thing lies on top.
    The same arguments give the same text, and tokens move nothing else.
    A net of a hundred tasks takes about a tenth of a second as SVG, during which the interpreter's other threads wait.

    Args:
        specification: it need not be sound, nor well-formed as long as every flow, read arc and cancellation set finds its ends.
        format: ``svg`` (needs the extra ``draw``), or ``mermaid`` or ``dot``, which other programs lay out.
        net: only this net; ``""`` is the root net.
        tokens: where a case is; a subnet that runs several times is drawn for each, as far as they are few.
        history: what happened in a case, from the beginning.
        frequencies: how often tasks completed, by path (``approve``, ``ship/pick``), and flows were taken (``check>approve``,
            ``ship/pick>pack``); `frequencies` counts them.  What a net does in several places is added up.

    Raises:
        SpecificationError: something names what is not there.
        ValueError: there is no such format or net, more than one thing lies on top, it does not fit the specification, or a net
            is too large for SVG: it has more than 1,000 tasks and conditions, or is so much of a tangle that its layout would take
            more than some ten seconds.
        MissingExtra: SVG is asked for, and pygraphviz is not installed.
    """
    if format not in _WRITERS:
        raise ValueError(f"a picture is {', '.join(get_args(PictureFormat))}, not {format!r}")
    if sum(each is not None for each in (tokens, history, frequencies)) > 1:
        raise ValueError("a picture shows tokens, a history or frequencies, one at a time")
    check(specification)
    places = Places.of(specification)
    if net is not None and net not in places.nets:
        there = ", ".join(repr(each) for each in places.nets)
        raise ValueError(f"there is no net {net!r}; there is {there}")
    wanted = list(places.nets) if net is None else [net]
    panels: list[Panel]
    if tokens is not None:
        panels = overlays.with_tokens(places, wanted, tokens)
    elif history is not None:
        panels = overlays.with_history(places, wanted, history)
    elif frequencies is not None:
        panels = overlays.with_frequencies(places, wanted, frequencies)
    else:
        panels = overlays.bare(places, wanted)
    scene = Scene(
        title=shortened(specification.name or specification.id, 100),
        description=describe(specification, panels),
        panels=tuple(panels),
    )
    return _WRITERS[format](scene)


def tokens_of(case: Case) -> Tokens:
    """Return where a case is."""
    failed = sorted(case.path(each) for each in case.state.items.values() if each.state is ItemState.FAILED)
    return Tokens(
        marking=case.marking(),
        enabled=tuple(case.enabled()),
        running=tuple(case.running()),
        failed=tuple(failed),
    )


def frequencies(specification: SpecificationData, histories: Iterable[Iterable[Event]]) -> dict[str, int]:
    """
    Count over many cases how often each task completed and each flow out of a task was taken, for `draw`.

    Args:
        specification: what all of them ran.
        histories: `RunningCase.history` of each.

    Raises:
        ValueError: an event names what the specification has not.
    """
    return dict(traffic.together(Places.of(specification), histories))
