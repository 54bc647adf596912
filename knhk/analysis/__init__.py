"""Looking at specifications before and beside their cases."""

from __future__ import annotations

from knhk.analysis._simulation_model import SimulationModel
from knhk.analysis._simulation_report import Interval, ResourceFigures, SimulationReport, TaskFigures, Throughput
from knhk.analysis.simulation import simulate

__all__ = (
    "Interval",
    "ResourceFigures",
    "SimulationModel",
    "SimulationReport",
    "TaskFigures",
    "Throughput",
    "simulate",
)
