"""What can be said of a specification, and of what happened, without running a case."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from knhk.analysis._simulation_model import SimulationModel
    from knhk.analysis._simulation_report import Interval, ResourceFigures, SimulationReport, TaskFigures, Throughput
    from knhk.analysis.conformance import (
        Deviation,
        DeviationKind,
        ReplayReport,
        TaskDeviations,
        TraceReplay,
        Variant,
        replay,
    )
    from knhk.analysis.simulation import simulate
    from knhk.analysis.soundness import verify
    from knhk.spec.verdict import Budget, NetVerdict, ProblemKind, SoundnessProblem, Step, Verdict

_HOME = {
    "knhk.analysis.conformance": (
        "Deviation",
        "DeviationKind",
        "ReplayReport",
        "TaskDeviations",
        "TraceReplay",
        "Variant",
        "replay",
    ),
    "knhk.analysis._simulation_model": ("SimulationModel",),
    "knhk.analysis._simulation_report": (
        "Interval",
        "ResourceFigures",
        "SimulationReport",
        "TaskFigures",
        "Throughput",
    ),
    "knhk.analysis.simulation": ("simulate",),
    "knhk.analysis.soundness": ("verify",),
    "knhk.spec.verdict": ("Budget", "NetVerdict", "ProblemKind", "SoundnessProblem", "Step", "Verdict"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = (
    "Budget",
    "Deviation",
    "DeviationKind",
    "Interval",
    "NetVerdict",
    "ProblemKind",
    "ReplayReport",
    "ResourceFigures",
    "SimulationModel",
    "SimulationReport",
    "SoundnessProblem",
    "Step",
    "TaskDeviations",
    "TaskFigures",
    "Throughput",
    "TraceReplay",
    "Variant",
    "Verdict",
    "replay",
    "simulate",
    "verify",
)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: the engine imports one part, and some parts import the engine."""
    if name not in _MODULE_OF:
        message = f"module 'knhk.analysis' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_MODULE_OF[name]), name)
