"""The event loop that simulations run on: the one place that chooses between the compiled one and the reference."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from knhk._hot import COMPILED
from knhk.analysis._simulation_loop import reference
from knhk.analysis._simulation_plan import Plan
from knhk.analysis._simulation_state import BATCHES, MAX_DEPTH, Progress, Raw


def choose(load: Callable[[], ModuleType], *, compiled: bool, required: bool) -> Callable[..., Raw]:
    """
    Return the event loop to use: the compiled one where the kernel is compiled and it was built.

    Raises:
        ImportError: it is required and not there.
    """
    if not compiled:
        return reference
    try:
        play = load().play
    except ImportError:
        if required:
            raise
        return reference

    def run(plan: Plan, *, cases: int, warm_up: int, seed: int, progress: Progress | None = None) -> Raw:
        batches = min(BATCHES, cases - warm_up)
        options: dict[str, Any] = {"cases": cases, "warm_up": warm_up, "seed": seed, "progress": progress}
        return Raw(*play(plan, batches=batches, max_depth=MAX_DEPTH, **options))

    return run


run = choose(
    lambda: import_module("knhk._hot.simulate"),
    compiled=COMPILED,
    required=os.environ.get("KNHK_REQUIRE_EXTENSION") == "1",
)
"""The event loop that was chosen: the compiled one, or `reference`."""
