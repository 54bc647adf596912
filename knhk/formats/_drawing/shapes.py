"""The figures of YAWL's notation as SVG, each around its centre.

Conditions are circles, the input condition with a triangle and the output condition with a bar.
Tasks are boxes; a join is drawn at the left side and a split at the right: AND points to the task, XOR away from it, OR is a
diamond (van der Aalst & ter Hofstede, "YAWL: yet another workflow language", 2005, figure 1), and a partial join is the number
that it needs.
A composite task has a double border, one with multiple instances a second box behind it.
What undoes a task has the sign of BPMN's compensation, and a flow that an error chooses begins with a bolt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape, quoteattr

import attrs

from knhk.formats._drawing.layout import Box, Point
from knhk.formats._drawing.scene import Figure
from knhk.formats._drawing.style import paint
from knhk.formats._drawing.words import harmless, width, wrapped
from knhk.spec import Join, PartialJoin, Split, Task

NAME: Final = 12.0
SMALL: Final = 10.0
RADIUS: Final = 14.0

_ROOM: Final = 126.0  # of a task's name
_LINE: Final = 14.0
_LEAST: Final = 38.0  # height of a task
_SIDE: Final = 15.0  # width of a join or a split
_SYMBOL: Final = 17.0  # room of a symbol
_BEHIND: Final = 4.0  # how far the second box of multiple instances stands out
_UNDER: Final = 20.0  # room for what stands under a task
_UNDER_ROOM: Final = 78.0  # of a condition's name
_UNDER_LINE: Final = 12.0


def number(value: float) -> str:
    """Return a coordinate with at most one decimal."""
    return (
        f"{value:.1f}".removesuffix(".0").replace("-0", "0") if -0.05 < value < 0 else f"{value:.1f}".removesuffix(".0")
    )


def attribute(value: str) -> str:
    """Return a value with its quotes; what XML cannot hold is replaced."""
    return quoteattr(harmless(value))


def text(x: float, y: float, words: str, kind: str, *, size: float, more: str = "") -> str:
    """Return a line of text."""
    return (
        f'<text x="{number(x)}" y="{number(y)}" font-size="{number(size)}" {paint(kind)}{more}>{escape(words)}</text>'
    )


def told(lines: Sequence[str]) -> str:
    """Return the title that a pointer or a screen reader finds."""
    return f"<title>{escape(chr(10).join(lines))}</title>"


@attrs.frozen(kw_only=True)
class Shape:
    """
    A figure with its measures.

    Args:
        width, height: of what is drawn of it.
        box: the room that the layout leaves for it, name below included.
        lines: the lines of its name.
        symbols: what kind of work it is.
    """

    figure: Figure
    width: float
    height: float
    box: Box
    lines: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()

    @property
    def stacked(self) -> float:
        """How far a second box stands out at its right."""
        task = self.figure.task
        return _BEHIND if task is not None and task.multiple is not None else 0.0

    def draw(self, at: Point) -> str:
        """Return the figure as SVG around a point."""
        return _task(self, at) if self.figure.task is not None else _condition(self, at)


def measure(figure: Figure) -> Shape:
    """Return a figure's measures."""
    if figure.task is None:
        return _measured_condition(figure)
    task = figure.task
    lines = wrapped(figure.name, _ROOM, NAME, 3)
    symbols = _symbols(task)
    sides = _SIDE * ((task.join is not None) + (task.split is not None))
    words = max(width(each, NAME) for each in lines)
    wide = max(52.0, words + 14 + (_SYMBOL if symbols else 0)) + sides + (6 if task.subnet is not None else 0)
    high = max(_LEAST, len(lines) * _LINE + 14, len(symbols) * _SYMBOL + 6)
    under = 2 * _UNDER if figure.marks.when else 0.0
    behind = 2 * _BEHIND if task.multiple is not None else 0.0
    box = Box(width=wide + behind, height=high + max(under, behind))
    return Shape(figure=figure, width=wide, height=high, box=box, lines=lines, symbols=symbols)


def _measured_condition(figure: Figure) -> Shape:
    if figure.kind == "implicit":
        across = RADIUS + 6
        return Shape(figure=figure, width=across, height=across, box=Box(width=across, height=across))
    across = 2 * RADIUS
    lines = wrapped(figure.name, _UNDER_ROOM, SMALL, 2) if figure.name else ()
    wide = max([across, *(width(each, SMALL) for each in lines)])
    high = across + 2 * (5 + _UNDER_LINE * len(lines) if lines else 0)
    box = Box(width=wide, height=high, first=figure.kind == "input", last=figure.kind == "output")
    return Shape(figure=figure, width=across, height=across, box=box, lines=lines)


def _symbols(task: Task) -> tuple[str, ...]:
    kinds = {
        "handler": task.handler is not None,
        "http": task.http is not None,
        "manual": task.manual is not None,
        "external": task.external is not None,
        "worklet": bool(task.worklet),
        "timer": task.timer is not None,
        "trigger": task.trigger is not None,
        "exlet": bool(task.exlet),
        "compensate": task.compensate is not None,
    }
    return tuple(name for name, there in kinds.items() if there)


# --- conditions -------------------------------------------------------------------------------------------------------


def _condition(shape: Shape, at: Point) -> str:
    x, y = at
    figure = shape.figure
    radius = shape.width / 2
    ends = {"input": "box-begin", "output": "box-finish"}
    kind = "box-visited" if "visited" in figure.marks.states else ends.get(figure.kind, "box")
    parts = [f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" stroke-width="1.6" {paint(kind)}/>']
    # A token takes the place of the sign; the colour of the circle still says what it is.
    if figure.kind == "input" and not figure.marks.tokens:
        parts.append(_path([(x - 4.5, y - 7), (x - 4.5, y + 7), (x + 7.5, y)], "begin"))
    if figure.kind == "output" and not figure.marks.tokens:
        parts.append(_path([(x - 6, y - 6), (x + 6, y - 6), (x + 6, y + 6), (x - 6, y + 6)], "finish"))
    if figure.marks.tokens:
        parts.append(tokens(at, figure.marks.tokens))
    for row, line in enumerate(shape.lines):
        parts.append(_middle(x, y + radius + 13.5 + row * _UNDER_LINE, line, "label", SMALL))
    return "".join(parts)


def tokens(at: Point, count: int) -> str:
    """Return tokens: a dot, or a larger one with their number."""
    x, y = at
    dot = f'<circle cx="{number(x)}" cy="{number(y)}" r="{4.5 if count == 1 else 8.5}" {paint("token")}/>'
    return dot if count == 1 else dot + _middle(x, y + 3.5, _figure(count), "figure", 9.5)


def _figure(count: int) -> str:
    return str(count) if count < 1000 else "999+"


def _middle(x: float, y: float, words: str, kind: str, size: float) -> str:
    return text(x, y, words, kind, size=size, more=' text-anchor="middle"')


def _path(points: Sequence[Point], kind: str, *, closed: bool = True, more: str = "") -> str:
    """Return straight lines through points."""
    d = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points) + ("Z" if closed else "")
    return f'<path d="{d}" {paint(kind)}{more}/>'


# --- tasks ------------------------------------------------------------------------------------------------------------


def rectangle(x: float, y: float, wide: float, high: float, kind: str, more: str = "") -> str:
    """Return a box with round corners by its upper left."""
    return f'<rect x="{number(x)}" y="{number(y)}" width="{number(wide)}" height="{number(high)}" rx="4" {paint(kind)}{more}/>'


def _task(shape: Shape, at: Point) -> str:
    task, marks = shape.figure.task, shape.figure.marks
    assert task is not None
    x, y = at[0] - shape.width / 2, at[1] - shape.height / 2
    state = next((each for each in ("failed", "running", "enabled", "visited") if each in marks.states), "")
    tinted = bool(marks.share)
    kind = f"box-{state}" if state and not tinted else "box"
    border = f' stroke-width="{2 if state else 1.4}"'
    parts = []
    if task.multiple is not None:
        parts.append(rectangle(x + _BEHIND, y - _BEHIND, shape.width, shape.height, kind, border))
    parts.append(rectangle(x, y, shape.width, shape.height, kind, border))
    if tinted:
        shade = f' fill-opacity="{0.1 + 0.9 * marks.share:.2f}"{border}'
        parts.append(rectangle(x, y, shape.width, shape.height, "box-visited", shade))
    if task.subnet is not None:
        inner = ' stroke-width="1"'
        parts.append(rectangle(x + 3, y + 3, shape.width - 6, shape.height - 6, "inner", inner))
    parts += _sides(shape, task, x, y)
    parts += _words(shape, task, x, y)
    parts += _badges(shape, x, y)
    return "".join(parts)


def _sides(shape: Shape, task: Task, x: float, y: float) -> list[str]:
    """Return the join at the left and the split at the right."""
    parts = []
    bar = ' stroke-width="1"'
    if task.join is not None:
        right = x + _SIDE
        parts.append(_path([(right, y), (right, y + shape.height)], "inner", closed=False, more=bar))
        middle = (x + _SIDE / 2, y + shape.height / 2)
        if isinstance(task.join, PartialJoin):
            parts.append(_middle(middle[0], middle[1] + 4, _figure(task.join.required), "name", 11))
        else:
            parts.append(_decoration(middle, task.join.value, to_the_right=task.join is Join.AND))
    if task.split is not None:
        left = x + shape.width - _SIDE
        parts.append(_path([(left, y), (left, y + shape.height)], "inner", closed=False, more=bar))
        middle = (left + _SIDE / 2, y + shape.height / 2)
        parts.append(_decoration(middle, task.split.value, to_the_right=task.split is Split.XOR))
    return parts


def _decoration(at: Point, kind: str, *, to_the_right: bool) -> str:
    """Return a triangle, or the diamond of OR; AND is filled."""
    x, y = at
    wide, high = 4.5, 8.0
    if kind == "or":
        return _path([(x - wide, y), (x, y - high), (x + wide, y), (x, y + high)], "open")
    tip = wide if to_the_right else -wide
    return _path([(x - tip, y - high), (x - tip, y + high), (x + tip, y)], "solid" if kind == "and" else "open")


def _words(shape: Shape, task: Task, x: float, y: float) -> list[str]:
    """Return the symbols, the name and what stands under the box."""
    left = x + (_SIDE if task.join is not None else 0) + (3 if task.subnet is not None else 0)
    right = x + shape.width - (_SIDE if task.split is not None else 0) - (3 if task.subnet is not None else 0)
    middle = y + shape.height / 2
    parts = []
    for row, name in enumerate(shape.symbols):
        top = middle + (row - len(shape.symbols) / 2) * _SYMBOL
        parts.append(symbol(name, left + 4.5, top + 2.5))
    centre = (left + right + (_SYMBOL if shape.symbols else 0)) / 2
    first = middle - len(shape.lines) * _LINE / 2 + 10.7
    parts += [_middle(centre, first + row * _LINE, line, "name", NAME) for row, line in enumerate(shape.lines)]
    if shape.figure.marks.when:
        parts.append(_middle(x + shape.width / 2, y + shape.height + 17, shape.figure.marks.when, "note", SMALL))
    return parts


def _badges(shape: Shape, x: float, y: float) -> list[str]:
    """Return the order at the upper left and the count at the upper right."""
    marks = shape.figure.marks
    parts = []
    if marks.order:
        parts.append(_badge(x, y, str(marks.order), "badge-visited"))
    if marks.count is not None:
        words = f"{marks.count:,}" if marks.share or not marks.count else f"{marks.count:,}\u00d7"
        kind = "badge" if "running" in marks.states else "badge-visited"
        parts.append(_badge(x + shape.width + shape.stacked - 4, y - shape.stacked, words, kind))
    return parts


def _badge(x: float, y: float, words: str, kind: str) -> str:
    """Return a pill around a point with a few characters."""
    wide = max(16.0, width(words, 9.5) + 8)
    pill = f'<rect x="{number(x - wide / 2)}" y="{number(y - 8)}" width="{number(wide)}" height="16" rx="8" {paint(kind)}/>'
    return pill + _middle(x, y + 3.5, words, "figure", 9.5)


# --- symbols ----------------------------------------------------------------------------------------------------------

_SYMBOLS: Final = {
    # A hexagonal nut: a program's work.
    "handler": "M3 .8L9 .8L12 6L9 11.2L3 11.2L0 6ZM6 3.6A2.4 2.4 0 1 1 5.99 3.6Z",
    # A globe.
    "http": "M6 .6A5.4 5.4 0 1 1 5.99 .6ZM6 .6A2.6 5.4 0 1 1 5.99 .6ZM.6 6L11.4 6",
    # A person.
    "manual": "M6 .5A2.6 2.6 0 1 1 5.99 .5ZM.8 11.5C.8 4.6 11.2 4.6 11.2 11.5Z",
    # An arrow out of a frame.
    "external": "M5 2L1 2L1 11L10 11L10 7M7 .8L11.2 .8L11.2 5M11.2 .8L5.5 6.5",
    # A net that is folded away.
    "worklet": "M1 1L11 1L11 11L1 11ZM6 3.4L6 8.6M3.4 6L8.6 6",
    "exlet": "M1 1L11 1L11 11L1 11ZM6 3.4L6 8.6M3.4 6L8.6 6",
    # A clock.
    "timer": "M6 .6A5.4 5.4 0 1 1 5.99 .6ZM6 2.8L6 6L8.6 7.6",
    # An envelope.
    "trigger": "M.6 2L11.4 2L11.4 10L.6 10ZM.6 2L6 6.6L11.4 2",
    # Back, and back.
    "compensate": "M6 2L6 10L.8 6ZM11.6 2L11.6 10L6.4 6Z",
}
_OF_FAILURE: Final = frozenset({"exlet", "compensate"})


def symbol(name: str, x: float, y: float) -> str:
    """Return a symbol of 12 by 12 by its upper left."""
    kind = paint("symbol-wrong" if name in _OF_FAILURE else "symbol")
    return f'<path transform="translate({number(x)} {number(y)})" d="{_SYMBOLS[name]}" stroke-width="1.1" {kind}/>'


def bolt(at: Point) -> str:
    """Return the sign of an error, where a flow leaves its task."""
    x, y = at
    ring = f'<circle cx="{number(x)}" cy="{number(y)}" r="6.5" stroke-width="1.2" {paint("box-wrong")}/>'
    zigzag = [(x + 1.4, y - 4.4), (x - 2.6, y + 0.8), (x + 2.2, y - 0.6), (x - 1.6, y + 4.4)]
    return ring + _path(zigzag, "line-wrong", closed=False, more=' stroke-width="1.2"')
