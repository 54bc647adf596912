"""
Deterministic simulation: several engines on one store in one thread, on virtual time, with everything that goes wrong.

A seed decides what instances there are, what clients ask of them, which calls and replies are lost, who dies or stands still
in the middle of what, how wrong clocks are, and when the store is away.
At the end nothing is lost, nothing done twice, and every case is over; if not, the same seed shows the same story again.

``python -m knhk.testing.simulation --seeds 2000`` plays many, ``--seed 17 --tell`` shows one.

The method is that of FoundationDB (Zhou et al., "FoundationDB: A Distributed Unbundled Transactional Key Value Store", SIGMOD
2021, section 4).
"""

from knhk.testing.simulation.story import Story, simulate
from knhk.testing.simulation.world import Faults

__all__ = ["Faults", "Story", "simulate"]
