"""The picture of a simulation: throughput times, where tasks' time goes, how busy resources are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from knhk.errors import MissingExtra

_UNITS: Final = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("seconds", 1.0))
_MOST: Final = 20  # tasks that are drawn; beyond, those that take least time are left out
_COLOURS: Final = {"waiting": "#d9762b", "service": "#2f6f9f"}


def draw(
    path: str | Path,
    *,
    title: str,
    times: Sequence[float],
    marks: Mapping[str, float],
    tasks: Mapping[str, Sequence[float]],
    resources: Mapping[str, float],
) -> None:
    """
    Draw one figure into a file.

    Args:
        path: its suffix says the format.
        title: the line above.
        times: throughput times in seconds.
        marks: times to mark in their histogram, by name.
        tasks: by name, the mean waiting and service in seconds; those without either are not drawn.
        resources: by name, the utilisation from 0 to 1.
    """
    try:
        figures: Any = import_module("matplotlib.figure")
        # The picture is made by name, without pyplot, which would keep it and might want a display.
        import_module("matplotlib.backends.backend_agg")
    except ImportError as error:
        raise MissingExtra("plot", "a plot") from error
    shown = _longest(tasks)
    rows = max(len(shown), 1)
    heights = [2.6, 0.9 + 0.28 * rows, *([0.9 + 0.28 * len(resources)] if resources else [])]
    figure = figures.Figure(figsize=(9, sum(heights) + 1.2), layout="constrained")
    axes = figure.subplots(len(heights), 1, gridspec_kw={"height_ratios": heights})
    figure.suptitle(title, fontsize=10)
    _draw_times(axes[0], times, marks)
    _draw_tasks(axes[1], shown, len(tasks) - len(shown))
    if resources:
        _draw_resources(axes[2], resources)
    # Without a date, so that the same report gives the same file.
    metadata = {"Date": None} if Path(path).suffix.lower() == ".svg" else None
    figure.savefig(path, dpi=120, metadata=metadata)


def _longest(tasks: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """The tasks that take most time, in their order."""
    kept = sorted(tasks, key=lambda name: sum(tasks[name]), reverse=True)[:_MOST]
    return {name: parts for name, parts in tasks.items() if name in kept and max(parts) > 0}


def _unit(longest: float) -> tuple[str, float]:
    return next((each for each in _UNITS if longest >= 2 * each[1]), _UNITS[-1])


def _draw_times(axes: Any, times: Sequence[float], marks: Mapping[str, float]) -> None:
    axes.set_title("Throughput time of completed cases", fontsize=10, loc="left")
    if not times:
        axes.text(0.5, 0.5, "no case completed", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    unit, length = _unit(max(times))
    axes.hist([each / length for each in times], bins=60, color=_COLOURS["service"])
    for (name, at), style in zip(marks.items(), ("-", "--"), strict=True):
        axes.axvline(at / length, color=_COLOURS["waiting"], linestyle=style, label=f"{name}: {at / length:.3g} {unit}")
    axes.legend(fontsize=8, frameon=False)
    axes.set_xlabel(unit)
    axes.set_ylabel("cases")
    _plain(axes)


def _draw_tasks(axes: Any, tasks: Mapping[str, Sequence[float]], left_out: int) -> None:
    beyond = f" ({left_out} of the shortest are left out)" if left_out else ""
    axes.set_title(f"Mean waiting and service of each execution, by task{beyond}", fontsize=10, loc="left")
    unit, length = _unit(max((sum(parts) for parts in tasks.values()), default=0.0))
    names = list(tasks)
    begins = [0.0] * len(names)
    for part, (label, colour) in enumerate(_COLOURS.items()):
        widths = [tasks[name][part] / length for name in names]
        axes.barh(names, widths, left=begins, color=colour, label=label)
        begins = [a + b for a, b in zip(begins, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.legend(fontsize=8, frameon=False)
    _plain(axes)


def _draw_resources(axes: Any, resources: Mapping[str, float]) -> None:
    axes.set_title("Utilisation, by resource", fontsize=10, loc="left")
    bars = axes.barh(list(resources), [100 * each for each in resources.values()], color=_COLOURS["service"])
    axes.bar_label(bars, fmt="%.1f %%", padding=3, fontsize=8)
    axes.set_xlim(0, 110)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("%")
    axes.invert_yaxis()
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
