from collections.abc import Iterable, Sequence

from knhk._orjoin_search import Monotone
from knhk._tables import Arc

class Backward:
    def __init__(self, system: Monotone) -> None: ...
    def __call__(
        self, have: Sequence[int], targets: Iterable[Sequence[Arc]], common: Sequence[Arc], budget: int
    ) -> tuple[int, int]: ...
