from collections.abc import Iterable, Sequence

from knhk._orjoin_search import Decide, Monotone, Search
from knhk._tables import Arc

class Backward:
    def __init__(self, system: Monotone) -> None: ...
    def __call__(
        self, have: Sequence[int], targets: Iterable[Sequence[Arc]], common: Sequence[Arc], budget: int
    ) -> tuple[int, int]: ...

def decision(
    search: Search,
    tiers: Sequence[tuple[Arc, int, int]],
    atoms: Sequence[tuple[int, int]],
    size: tuple[int, int],
    budget: int,
    remembered: int,
) -> Decide | None: ...
