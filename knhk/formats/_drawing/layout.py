"""Where the figures of a panel lie and how its lines run: Graphviz's ``dot``, in the process, by pygraphviz.

Graphviz sees numbers and sizes alone: no word of a specification, no font.
So the same net has the same layout wherever it is drawn, and whatever tokens lie on it.
pygraphviz holds the interpreter's lock while it works, which is what makes it safe in threads.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import attrs

from knhk.errors import MissingExtra

Point = tuple[float, float]

_INCH: Final = 72.0


@attrs.frozen(kw_only=True)
class Box:
    """
    A figure's room.

    Args:
        width, height: in pixels.
        first, last: whether nothing lies to its left, or to its right.
    """

    width: float
    height: float
    first: bool = False
    last: bool = False


@attrs.frozen(kw_only=True)
class Link:
    """
    A line between two boxes, by their positions.

    Args:
        label: the width and height of its label, or None.
        loose: it may not push its ends apart.
    """

    source: int
    target: int
    label: Point | None = None
    loose: bool = False


@attrs.frozen(kw_only=True)
class Placed:
    """
    A layout; the origin is the upper left.

    Args:
        width, height: of the whole.
        centres: of the boxes.
        curves: of the links: a first point, then three points for each cubic Bezier curve.
        labels: the centres of their labels.
    """

    width: float
    height: float
    centres: tuple[Point, ...]
    curves: tuple[tuple[Point, ...], ...]
    labels: tuple[Point | None, ...]


def place(boxes: Sequence[Box], links: Sequence[Link]) -> Placed:
    """Lay boxes and links out from left to right; raises MissingExtra."""
    try:
        pygraphviz: Any = import_module("pygraphviz")
    except ImportError as error:
        raise MissingExtra("draw", "a picture as SVG") from error
    graph = pygraphviz.AGraph(string=_text(boxes, links))
    try:
        found = json.loads(graph.draw(format="json0", prog="dot"))
    finally:
        graph.close()
    _, _, width, height = (float(each) for each in found["bb"].split(","))
    # The groups of a rank are objects too.
    objects = {int(each["name"]): each for each in found.get("objects", ()) if "pos" in each}
    edges = {int(each["id"]): each for each in found.get("edges", ())}
    centres = tuple(_point(objects[number]["pos"], height) for number in range(len(boxes)))
    curves = tuple(
        _curve(edges.get(number, {}).get("pos", ""), height)
        or _straight(boxes[link.source], centres[link.source], boxes[link.target], centres[link.target])
        for number, link in enumerate(links)
    )
    at = [edges.get(number, {}).get("lp") for number in range(len(links))]
    labels = tuple(None if each is None else _point(each, height) for each in at)
    return Placed(width=width, height=height, centres=centres, curves=curves, labels=labels)


def reach(count: int, links: Sequence[Link]) -> int:
    """
    Return how many ranks all links of `count` boxes together reach over, about: what a layout costs grows with its square.

    A link back to a box that the way to its source came through counts as far as one forward.
    """
    targets: list[list[int]] = [[] for _ in range(count)]
    for link in links:
        targets[link.source].append(link.target)
    behind, back = _walked(targets)
    ranks = [0] * count
    for box in behind:
        for target in targets[box]:
            if (box, target) not in back:
                ranks[target] = max(ranks[target], ranks[box] + 1)
    return sum(abs(ranks[link.source] - ranks[link.target]) for link in links)


def _walked(targets: Sequence[Sequence[int]]) -> tuple[list[int], set[tuple[int, int]]]:
    """Walk a graph in depth; return its boxes so that each stands in front of those behind it, and the links back."""
    on_the_way, left = 1, 2
    state = [0] * len(targets)
    order: list[int] = []
    back = set()
    for first in range(len(targets)):
        way = [] if state[first] else [(first, iter(targets[first]))]
        while way:
            box, rest = way[-1]
            state[box] = on_the_way
            for target in rest:
                if state[target] == on_the_way:
                    back.add((box, target))
                elif state[target] != left:
                    way.append((target, iter(targets[target])))
                    break
            else:
                way.pop()
                state[box] = left
                order.append(box)
    return order[::-1], back


def _text(boxes: Sequence[Box], links: Sequence[Link]) -> str:
    """The graph in Graphviz's own language."""
    lines = [
        "digraph {",
        'graph [rankdir=LR, nodesep=0.3, ranksep=0.42, splines=true, pad=0, margin=0, outputorder=nodesfirst, label=""];',
        'node [shape=box, fixedsize=true, label="", margin=0];',
        'edge [arrowhead=none, label="", tailport=e, headport=w];',
    ]
    for number, box in enumerate(boxes):
        lines.append(f"{number} [width={box.width / _INCH:.4f}, height={box.height / _INCH:.4f}];")
    for rank, numbers in (
        ("source", [n for n, each in enumerate(boxes) if each.first]),
        ("sink", [n for n, each in enumerate(boxes) if each.last]),
    ):
        lines += [f"{{rank={rank}; {number};}}" for number in numbers]
    lines += [f"{link.source} -> {link.target} [id={number}{_extra(link)}];" for number, link in enumerate(links)]
    return "\n".join([*lines, "}"])


def _extra(link: Link) -> str:
    loose = ", weight=0" if link.loose else ""
    if link.label is None:
        return loose
    width, height = (f"{each:.0f}" for each in link.label)
    table = f'<TABLE BORDER="0" FIXEDSIZE="TRUE" WIDTH="{width}" HEIGHT="{height}"><TR><TD></TD></TR></TABLE>'
    return f"{loose}, label=<{table}>"


def _point(text: str, height: float) -> Point:
    x, y = text.split(",")[:2]
    return float(x), height - float(y)


def _curve(text: str, height: float) -> tuple[Point, ...]:
    """The first of a line's curves; an empty one where Graphviz found no way."""
    parts = text.split(";", maxsplit=1)[0].split()
    return tuple(_point(part, height) for part in parts if part[0] not in "se")


def _straight(source: Box, begin: Point, target: Box, end: Point) -> tuple[Point, ...]:
    """A straight line from the right of one box to the left of another."""
    a, b = (begin[0] + source.width / 2, begin[1]), (end[0] - target.width / 2, end[1])
    middle = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)
    return a, middle, middle, b
