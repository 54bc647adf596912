"""A scene as SVG: no script, no address, no id, no inline style; what is in it is found by ``data-`` attributes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final
from xml.sax.saxutils import escape

import attrs

from knhk.formats._drawing.layout import Link, Placed, Point, place, reach
from knhk.formats._drawing.scene import Figure, Line, Panel, Scene
from knhk.formats._drawing.shapes import (
    SMALL,
    Shape,
    attribute,
    bolt,
    measure,
    number,
    rectangle,
    text,
    tokens,
    told,
)
from knhk.formats._drawing.style import STYLE, paint
from knhk.formats._drawing.words import fitted, shortened, width

MOST: Final = 1_000
"""How many tasks and conditions of one net are laid out."""

FARTHEST: Final = 6_000
"""How many ranks its flows may reach over, all together: ten seconds at the worst; a structured net of 1,000 is far from it."""

_MARGIN: Final = 16.0
_GAP: Final = 12.0  # between panels
_SHEET: Final = 1_100.0  # width that panels side by side may have in any case
_PADDING: Final = 18.0  # around a panel's net
_HEADING: Final = 20.0
_ROW: Final = 18.0  # of a legend
_LABEL: Final = 124.0  # the widest label of a flow
_TITLE: Final = 560.0  # room that a title may take in any case
_BOLD: Final = 1.12  # how much wider bold type is
_TIP: Final = 7.0
_CLEAR: Final = 8.5  # between the middle of a label and its line
_FONTS: Final = "system-ui, 'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"
_STATES: Final = {
    "enabled": "offered",
    "running": "running",
    "failed": "failed",
    "visited": "happened",
    "perhaps": "perhaps taken",
}


def svg(scene: Scene) -> str:
    """Return the picture; raises MissingExtra."""
    drawn = [_panel(each) for each in scene.panels]
    title = fitted(scene.title, max([_TITLE, *(each.width for each in drawn)]), _BOLD * 16)
    wide = max([*(each.width for each in drawn), width(title, _BOLD * 16)]) + 2 * _MARGIN
    parts = [text(_MARGIN, _MARGIN + 15, title, "heading", size=16, more=' font-weight="600"')]
    top = _MARGIN + 28
    for row in _rows(drawn, max(_SHEET, wide - 2 * _MARGIN)):
        left = _MARGIN
        for each in row:
            parts.append(f'<g transform="translate({number(left)} {number(top)})">{each.svg}</g>')
            left += each.width + _GAP
            wide = max(wide, left - _GAP + _MARGIN)
        top += max(each.height for each in row) + _GAP
    legend = _legend(scene)
    if legend:
        parts.append(f'<g transform="translate({number(_MARGIN)} {number(top)})">{legend}</g>')
        top += _ROW
    high = top + _MARGIN - _GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="knhk-picture" role="img" aria-label={attribute(scene.title)} '
        f'viewBox="0 0 {number(wide)} {number(high)}" width="{number(wide)}" height="{number(high)}" '
        f'font-family="{_FONTS}">'
    )
    about = f"<title>{escape(scene.title)}</title><desc>{escape(scene.description)}</desc><style>{STYLE}</style>"
    page = f'<rect width="{number(wide)}" height="{number(high)}" {paint("page")}/>'
    return "\n".join([head, about, page, *parts, "</svg>\n"])


@attrs.frozen(kw_only=True)
class _Drawn:
    width: float
    height: float
    svg: str


def _rows(drawn: Sequence[_Drawn], room: float) -> list[list[_Drawn]]:
    """Return the panels in rows no wider than `room`; the first stands alone."""
    rows: list[list[_Drawn]] = []
    left = room
    for each in drawn:
        if len(rows) < 2 or left + each.width > room:
            rows.append([])
            left = 0.0
        rows[-1].append(each)
        left += each.width + _GAP
    return rows


def _panel(panel: Panel) -> _Drawn:
    """Draw one net."""
    shapes = [measure(each) for each in panel.figures]
    labels = [_label(each) for each in panel.lines]
    links = [
        Link(
            source=line.source,
            target=line.target,
            label=(width(label, SMALL) + 6, 13.0) if label else None,
            loose=line.read,
        )
        for line, label in zip(panel.lines, labels, strict=True)
    ]
    _check_size(panel, links)
    placed = place([each.box for each in shapes], links)
    legend = [fitted(f"{each.letter}: {each.told}", 700, 11) for each in panel.regions]
    heading = fitted(panel.heading, 700, 13) if panel.heading else ""
    remark = fitted(panel.remark, 700, 11) if panel.remark else ""
    words = [width(heading, _BOLD * 13), width(remark, 11), *(width(each, 11) + 30 for each in legend)]
    wide = max([placed.width, *words]) + 2 * _PADDING
    upper = _PADDING + (_HEADING if heading else 0)
    high = upper + placed.height + _PADDING + _ROW * (len(legend) + bool(remark))
    parts = [rectangle(0, 0, wide, high, "panel")]
    if heading:
        parts.append(text(_PADDING, 22, heading, "heading", size=13, more=' font-weight="600"'))
    inner = [*_regions(panel, shapes, placed), *_lines(panel, labels, shapes, placed)]
    inner += [_figure(each, shape, at) for each, shape, at in zip(panel.figures, shapes, placed.centres, strict=True)]
    # What has no token is paler in a net that does not run.
    pale = ' opacity="0.55"' if panel.idle else ""
    parts.append(f'<g transform="translate({number(_PADDING)} {number(upper)})"{pale}>')
    parts += [*inner, "</g>"]
    for row, each in enumerate(legend):
        y = upper + placed.height + _PADDING + _ROW * row
        parts.append(
            f'<path d="M{number(_PADDING)} {number(y)}h20" stroke-width="1.5" stroke-dasharray="5 3" {paint("region")}/>'
        )
        parts.append(text(_PADDING + 27, y + 4, each, "note", size=11))
    if remark:
        parts.append(text(_PADDING, high - 12, remark, "note", size=11))
    path = "" if panel.path is None else f" data-path={attribute(panel.path)}"
    group = f'<g class="net" data-net={attribute(panel.net)}{path}>'
    return _Drawn(width=wide, height=high, svg="\n".join([group, *parts, "</g>"]))


def _check_size(panel: Panel, links: Sequence[Link]) -> None:
    """Refuse what would take too long, before it does."""
    name = f"the subnet {shortened(panel.net, 60)!r}" if panel.net else "the root net"
    instead = "draw it as mermaid or dot, or part it into subnets"
    if len(panel.figures) > MOST:
        many = f"{len(panel.figures):,} tasks and conditions"
        raise ValueError(f"{name} has {many}, and at most {MOST:,} can be laid out: {instead}")
    if reach(len(panel.figures), links) > FARTHEST:
        raise ValueError(f"{name} is too much of a tangle to be laid out in time: {instead}")


def _figure(figure: Figure, shape: Shape, at: Point) -> str:
    kind = "task" if figure.task is not None else "condition"
    states = "".join(f" {each}" for each in figure.marks.states)
    held = f' data-tokens="{figure.marks.tokens}"' if figure.marks.tokens else ""
    where = f'data-x="{number(at[0])}" data-y="{number(at[1])}"'
    group = f'<g class="{figure.kind}{states}" data-{kind}={attribute(figure.id)}{held} {where}>'
    return f"{group}{told(figure.told)}{shape.draw(at)}</g>"


# --- lines ------------------------------------------------------------------------------------------------------------


def _label(line: Line) -> str:
    count = f"{line.marks.count:,}" if line.marks.count is not None else ""
    room = _LABEL - width(count, SMALL)
    predicate = fitted(line.label, room, SMALL) if line.label else ""
    return " \u00b7 ".join(each for each in (predicate, count) if each)


def _lines(panel: Panel, labels: Sequence[str], shapes: Sequence[Shape], placed: Placed) -> list[str]:
    curves = _attached(panel.lines, shapes, placed)
    return [
        _line(line, label, curve, at)
        for line, label, curve, at in zip(panel.lines, labels, curves, placed.labels, strict=True)
    ]


def _attached(lines: Sequence[Line], shapes: Sequence[Shape], placed: Placed) -> list[list[Point]]:
    """Return the curves from border to border; where several meet a task's side they are spread along it."""
    curves = [list(each) for each in placed.curves]
    outs: dict[int, list[int]] = {}
    ins: dict[int, list[int]] = {}
    for position, line in enumerate(lines):
        outs.setdefault(line.source, []).append(position)
        ins.setdefault(line.target, []).append(position)
    for sides, end in ((outs, 0), (ins, -1)):
        for figure, positions in sides.items():
            shape, (x, y) = shapes[figure], placed.centres[figure]
            border = x + shape.width / 2 + shape.stacked if end == 0 else x - shape.width / 2
            order = sorted(positions, key=lambda each: (_heading(curves[each], end), each))
            for rank, position in enumerate(order):
                off = _offset(rank, len(order), shape)
                _move(curves[position], end, (border, y), off)
    return curves


def _heading(curve: Sequence[Point], end: int) -> float:
    """How far below a curve is, soon after it has left an end."""
    return sum(y for _, y in (curve[:4] if end == 0 else curve[-4:]))


def _offset(rank: int, count: int, shape: Shape) -> float:
    if count == 1 or shape.figure.task is None:
        return 0.0
    gap = min(11.0, (shape.height - 14) / (count - 1))
    return (rank - (count - 1) / 2) * gap


def _move(curve: list[Point], end: int, to: Point, off: float) -> None:
    """Move one end of a curve to a border, and the control point beside it along."""
    beside = 1 if end == 0 else -2
    x, y = curve[beside]
    curve[beside] = (x, y + off)
    old = curve[end]
    new = (to[0], to[1] + off)
    if abs(old[0] - new[0]) > 0.5:
        # The room of a figure is wider than the figure: a straight piece leads to it.
        straight = [new, _between(new, (old[0], new[1]), 1 / 3), _between(new, (old[0], new[1]), 2 / 3)]
        curve[end] = (old[0], new[1])
        if end == 0:
            curve[:0] = straight
        else:
            curve.extend(reversed(straight))
    else:
        curve[end] = new


def _between(a: Point, b: Point, part: float) -> Point:
    return a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part


def _line(line: Line, label: str, curve: list[Point], at: Point | None) -> str:
    visited = bool({"visited", "perhaps"} & set(line.marks.states))
    thick = 1.2 + (4.3 * line.marks.share if line.marks.share else 1.0 if visited else 0.0)
    dashed = ' stroke-dasharray="5 3"' if "perhaps" in line.marks.states else ""
    middle = _middle(curve)
    parts = []
    if line.read:
        parts.append(_way(curve, "read", ' stroke-width="1.1" stroke-dasharray="3 3"'))
        parts.append(_dot(curve[-1]))
    else:
        tip, base = curve[-1], _tip_base(curve)
        look = "-visited" if visited else "-wrong" if line.error else ""
        parts.append(_way([*curve[:-1], base], f"line{look}", f' stroke-width="{thick:.1f}"{dashed}'))
        parts.append(_arrow(tip, base, f"tip{look}", 1 + thick / 8))
    if line.error:
        parts.append(bolt((curve[0][0] + 7, curve[0][1])))
    if line.default:
        x, y = curve[0]
        slash = f"M{number(x + 5)} {number(y + 5)}L{number(x + 10)} {number(y - 5)}"
        parts.append(f'<path d="{slash}" stroke-width="1.6" {paint("line")}/>')
    if label and at is not None:
        y = _beside(curve, at, width(label, SMALL)) + 3.5
        parts.append(text(at[0], y, label, "label", size=SMALL, more=' text-anchor="middle"'))
    if line.marks.tokens:
        ring = f'<circle cx="{number(middle[0])}" cy="{number(middle[1])}" r="10" stroke-width="1.4" {paint("box")}/>'
        parts.append(ring + tokens(middle, line.marks.tokens))
    held = f' data-tokens="{line.marks.tokens}"' if line.marks.tokens else ""
    states = "".join(f" {each}" for each in line.marks.states)
    kind = "read-arc" if line.read else "flow"
    where = f'data-x="{number(middle[0])}" data-y="{number(middle[1])}"'
    group = f'<g class="{kind}{states}" data-{kind}={attribute(line.flow)}{held} {where}>'
    return f"{group}{told(line.told)}{''.join(parts)}</g>"


def _way(curve: Sequence[Point], kind: str, more: str) -> str:
    points = [f"{number(x)} {number(y)}" for x, y in curve]
    triples = (" ".join(points[at : at + 3]) for at in range(1, len(points), 3))
    return f'<path d="M{points[0]}{"".join(f"C{each}" for each in triples)}" {paint(kind)}{more}/>'


def _tip_base(curve: Sequence[Point]) -> Point:
    """Where an arrow's head begins: on the way to the end."""
    (x, y), end = next((each for each in reversed(curve[:-1]) if math.dist(each, curve[-1]) > 0.5), curve[0]), curve[-1]
    length = math.dist((x, y), end) or 1.0
    return end[0] - (end[0] - x) / length * _TIP, end[1] - (end[1] - y) / length * _TIP


def _arrow(tip: Point, base: Point, kind: str, size: float) -> str:
    dx, dy = (tip[0] - base[0]) / _TIP, (tip[1] - base[1]) / _TIP
    half = 3.2 * size
    points = [tip, (base[0] - dy * half, base[1] + dx * half), (base[0] + dy * half, base[1] - dx * half)]
    return f'<path d="M{"L".join(f"{number(x)} {number(y)}" for x, y in points)}Z" {paint(kind)}/>'


def _dot(at: Point) -> str:
    return f'<circle cx="{number(at[0] - 3)}" cy="{number(at[1])}" r="3" stroke-width="1.1" {paint("open")}/>'


def _middle(curve: Sequence[Point]) -> Point:
    """The point half-way along a curve."""
    points = _points(curve)
    lengths = [math.dist(a, b) for a, b in pairwise(points)]
    left = sum(lengths) / 2
    for length, a, b in zip(lengths, points, points[1:], strict=False):
        if length >= left:
            return _between(a, b, left / (length or 1.0))
        left -= length
    return points[-1]


def _points(curve: Sequence[Point]) -> list[Point]:
    """Points along a curve, close enough to measure it."""
    return [_on(curve[at : at + 4], t / 12) for at in range(0, len(curve) - 1, 3) for t in range(13)]


def _on(piece: Sequence[Point], t: float) -> Point:
    """The point of one cubic Bezier curve at a parameter."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = piece
    a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
    return a * ax + b * bx + c * cx + d * dx, a * ay + b * by + c * cy + d * dy


def _beside(curve: Sequence[Point], at: Point, wide: float) -> float:
    """Where a label's middle lies if its line, which was moved, is not to run through it."""
    near = [y for x, y in _points(curve) if abs(x - at[0]) <= wide / 2 and abs(y - at[1]) < _CLEAR]
    if not near:
        return at[1]
    above, below = min(near) - _CLEAR, max(near) + _CLEAR
    return above if at[1] - above <= below - at[1] else below


# --- cancellation, legend ---------------------------------------------------------------------------------------------


def _regions(panel: Panel, shapes: Sequence[Shape], placed: Placed) -> list[str]:
    """Return a dashed outline around each thing that is cancelled, with the letter of its region."""
    parts = []
    around: dict[int, int] = {}
    for region in panel.regions:
        for figure in region.figures:
            rank = around[figure] = around.get(figure, -1) + 1
            off = (4.0 if panel.figures[figure].task is None else 5.0) + 3.0 * min(rank, 2)
            shape, (x, y) = shapes[figure], placed.centres[figure]
            left, top = x - shape.width / 2 - off, y - shape.height / 2 - off - shape.stacked
            wide, high = shape.width + 2 * off + shape.stacked, shape.height + 2 * off + shape.stacked
            dashed = ' stroke-width="1.5" stroke-dasharray="5 3"'
            parts.append(f'<g class="cancelled">{told([f"{region.letter}: {region.told}"])}')
            parts.append(rectangle(left, top, wide, high, "region", dashed))
            spot = left + wide / 2 + 9 * rank
            parts.append(text(spot, top - 3 + 3 * rank, region.letter, "letter", size=9, more=' text-anchor="middle"'))
            parts.append("</g>")
    return parts


def _legend(scene: Scene) -> str:
    """Return what the colours of a case's picture mean, as far as it has them."""
    marks = [each.marks for panel in scene.panels for each in panel.figures]
    marks += [each.marks for panel in scene.panels for each in panel.lines]
    there = {state for each in marks for state in each.states}
    parts = []
    x = 0.0
    for state, words in _STATES.items():
        if state in there:
            parts.append(
                f'<path d="M{number(x)} 6h16" stroke-width="2" stroke-dasharray="5 3" {paint("line-visited")}/>'
                if state == "perhaps"
                else rectangle(x, 0, 16, 12, f"box-{state}")
            )
            parts.append(text(x + 21, 10, words, "note", size=11))
            x += 34 + width(words, 11)
    return "".join(parts)
