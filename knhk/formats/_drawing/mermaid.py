"""A scene as a Mermaid flowchart: text that many wikis and code hosts draw."""

from __future__ import annotations

from typing import Final

from knhk.formats._drawing.scene import Figure, Line, Panel, Scene
from knhk.formats._drawing.words import shortened, times
from knhk.spec import PartialJoin, Task

_LONGEST: Final = 80
_ENTITIES: Final = {ord(each): f"#{ord(each)};" for each in '"#&<>`\\[](){}|;'}
_CLASSES: Final = {
    "enabled": "fill:#fff8c5,stroke:#9a6700,color:#1f2328",
    "running": "fill:#ddf4ff,stroke:#0969da,color:#1f2328",
    "failed": "fill:#ffebe9,stroke:#cf222e,color:#1f2328",
    "visited": "fill:#dafbe1,stroke:#1a7f37,color:#1f2328",
    "cancelled": "stroke:#bc4c00,stroke-dasharray:5 3",
}


def mermaid(scene: Scene) -> str:
    """Return the text of the flowchart."""
    lines = ["flowchart LR"]
    used: set[str] = set()
    for number, panel in enumerate(scene.panels):
        lines.append(f'  subgraph n{number}["{quoted(panel.heading or scene.title)}"]')
        lines += [f"    {_figure(number, at, each)}" for at, each in enumerate(panel.figures)]
        lines += [f"    {_line(number, each)}" for each in panel.lines]
        lines.append("  end")
        lines += [f"  %% {each.letter}: {_comment(each.told)}" for each in panel.regions]
        marked = _marked(panel)
        used |= marked.keys()
        lines += [f"  class {','.join(f'n{number}_{at}' for at in ats)} {name}" for name, ats in marked.items()]
    lines += [f"  classDef {name} {look}" for name, look in _CLASSES.items() if name in used]
    return "\n".join([*lines, ""])


def quoted(text: str) -> str:
    """Return a text as it stands between quotes; Mermaid knows numbered entities alone."""
    return shortened(text, _LONGEST).translate(_ENTITIES)


def _comment(text: str) -> str:
    """Return a text for a comment, in which braces would be read as a directive."""
    return shortened(text, 300).translate({ord("{"): "(", ord("}"): ")"})


def _figure(number: int, at: int, figure: Figure) -> str:
    name = f"n{number}_{at}"
    tokens = f" {figure.marks.tokens}" if figure.marks.tokens else ""
    if figure.kind == "input":
        return f'{name}(("#9654;{tokens}"))'
    if figure.kind == "output":
        return f'{name}((("#9632;{tokens}")))'
    if figure.task is None:
        return f'{name}(("{quoted(figure.name) + tokens or " "}"))'
    words = "<br/>".join([quoted(figure.name), *told_beside(figure.task, figure)])
    return f'{name}[["{words}"]]' if figure.task.subnet is not None else f'{name}["{words}"]'


def told_beside(task: Task, figure: Figure) -> list[str]:
    """Return what YAWL draws around a task's name, in words."""
    parts = []
    if isinstance(task.join, PartialJoin):
        parts.append(f"{task.join.required}-out-of join")
    elif task.join is not None:
        parts.append(f"{task.join.value.upper()} join")
    if task.split is not None:
        parts.append(f"{task.split.value.upper()} split")
    if task.multiple is not None:
        parts.append("multiple")
    if task.worklet:
        parts.append("worklet")
    if task.exlet:
        parts.append("exlet")
    if task.compensate is not None:
        parts.append("compensated")
    told = [", ".join(parts)] if parts else []
    marks = figure.marks
    marked = [f"no. {marks.order}"] if marks.order else []
    marked += [times(marks.count)] if marks.count is not None else []
    return [*told, ", ".join(marked)] if marked else told


def label_of(line: Line) -> str:
    """Return what stands beside a flow."""
    parts = [line.label] if line.label else []
    parts += ["default"] if line.default else []
    parts += [times(line.marks.count)] if line.marks.count is not None else []
    parts += [f"tokens: {line.marks.tokens}"] if line.marks.tokens else []
    return ", ".join(parts)


def _line(number: int, line: Line) -> str:
    source, target = f"n{number}_{line.source}", f"n{number}_{line.target}"
    if line.read:
        return f"{source} -.-o {target}"
    arrow = "==>" if "visited" in line.marks.states else "-.->" if line.error else "-->"
    label = quoted(label_of(line))
    return f'{source} {arrow}|"{label}"| {target}' if label else f"{source} {arrow} {target}"


def _marked(panel: Panel) -> dict[str, list[int]]:
    marked: dict[str, list[int]] = {}
    for at, figure in enumerate(panel.figures):
        state = next(
            (each for each in ("failed", "running", "enabled", "visited") if each in figure.marks.states), None
        )
        if state is not None:
            marked.setdefault(state, []).append(at)
    cancelled = sorted({at for region in panel.regions for at in region.figures})
    return {**marked, "cancelled": cancelled} if cancelled else marked
