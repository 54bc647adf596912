from collections.abc import Callable
from typing import Any

def play(
    plan: object,
    *,
    cases: int,
    warm_up: int,
    seed: int,
    batches: int,
    max_depth: int,
    progress: Callable[[int], None] | None,
) -> tuple[Any, ...]: ...
