"""A scene in Graphviz's language, for those who lay it out themselves."""

from __future__ import annotations

from typing import Final

from knhk.formats._drawing.mermaid import label_of, told_beside
from knhk.formats._drawing.scene import Figure, Line, Panel, Scene
from knhk.formats._drawing.words import shortened

_LONGEST: Final = 80
_LOOKS: Final = {
    "failed": 'fillcolor="#ffebe9", color="#cf222e"',
    "running": 'fillcolor="#ddf4ff", color="#0969da"',
    "enabled": 'fillcolor="#fff8c5", color="#9a6700"',
    "visited": 'fillcolor="#dafbe1", color="#1a7f37"',
}


def dot(scene: Scene) -> str:
    """Return the text of the graph, a cluster for each net."""
    lines = [
        f"digraph {quoted(scene.title)} {{",
        "  rankdir=LR;",
        '  node [fontname="Helvetica", fontsize=11, style=filled, fillcolor=white];',
        '  edge [fontname="Helvetica", fontsize=9];',
    ]
    for number, panel in enumerate(scene.panels):
        lines.append(f"  subgraph cluster_{number} {{")
        lines.append(f"    label={quoted(panel.heading or scene.title)};")
        cancelled = _cancelled(panel)
        lines += [
            f"    n{number}_{at} [{_figure(each, cancelled.get(at, ''))}];" for at, each in enumerate(panel.figures)
        ]
        lines += [f"    n{number}_{each.source} -> n{number}_{each.target}{_line(each)};" for each in panel.lines]
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def quoted(text: str, *more: str) -> str:
    """Return a text in quotes, with more lines below it; a backslash stands for itself."""
    lines = [shortened(each, _LONGEST).replace("\\", "\\\\").replace('"', '\\"') for each in (text, *more)]
    return '"' + "\\n".join(lines) + '"'


def _figure(figure: Figure, letters: str) -> str:
    tokens = [f"tokens: {figure.marks.tokens}"] if figure.marks.tokens else []
    told = [f"cancelled: {letters}"] if letters else []
    state = next((look for state, look in _LOOKS.items() if state in figure.marks.states), "")
    looks = [each for each in (state, f"tooltip={quoted(figure.told[0])}") if each]
    if figure.task is not None:
        words = quoted(figure.name, *told_beside(figure.task, figure), *told)
        looks.append("shape=box, peripheries=2" if figure.task.subnet is not None else "shape=box")
        looks.append(f'style="filled,rounded{",dashed" if letters else ""}"')
    else:
        words = quoted({"input": "\u25b6", "output": "\u25a0"}.get(figure.kind, figure.name), *tokens, *told)
        looks.append("shape=doublecircle" if figure.kind == "output" else "shape=circle")
        if letters:
            looks.append('style="filled,dashed"')
    return ", ".join([f"label={words}", *looks])


def _line(line: Line) -> str:
    looks = []
    label = label_of(line)
    if label:
        looks.append(f"label={quoted(label)}")
    if line.read:
        looks.append("style=dashed, arrowhead=odot, constraint=false")
    if "visited" in line.marks.states:
        looks.append(f'color="#1a7f37", penwidth={1.5 + 4 * line.marks.share:.1f}')
    elif line.error:
        looks.append('color="#cf222e"')
    return f" [{', '.join(looks)}]" if looks else ""


def _cancelled(panel: Panel) -> dict[int, str]:
    """Return, by figure, the letters of the regions that it lies in."""
    letters: dict[int, str] = {}
    for region in panel.regions:
        for at in region.figures:
            letters[at] = letters.get(at, "") + region.letter
    return letters
