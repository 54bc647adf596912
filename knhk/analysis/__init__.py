"""What can be said of a specification, and of what happened, without running a case."""

from __future__ import annotations

from knhk.analysis.replay import Deviation, DeviationKind, ReplayReport, TaskDeviations, TraceReplay, Variant, replay

__all__ = ("Deviation", "DeviationKind", "ReplayReport", "TaskDeviations", "TraceReplay", "Variant", "replay")
