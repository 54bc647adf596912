from collections.abc import Callable, Sequence
from typing import Any

from knhk._kernel import Marking, Net

WAITING: int
ROUTING: int
HANDLER: int
DRIVEN: int
WAITS: int
ENDED: int
STOPPED: int
FAILED: int
REFUSED: int
OVERTAKEN: int

class WorkFields:
    case_id: str
    task: str
    attempt: int
    item: Any
    index: int | None
    _number: int
    _source: dict[str, Any]
    _data: dict[str, Any] | None
    def __init__(
        self,
        case_id: str,
        task: str,
        number: int,
        attempt: int,
        source: dict[str, Any],
        item: Any = None,
        index: int | None = None,
    ) -> None: ...

class ExpressNet:
    net: Net
    useful: bool
    def handles(self, task: int) -> bool: ...
    def replays(self, task: int) -> bool: ...
    def __init__(
        self,
        net: Net,
        *,
        kinds: Sequence[int],
        names: Sequence[str],
        handlers: Sequence[str | None],
        replayable: Sequence[bool],
        outputs: Sequence[tuple[int, ...]],
        branches: Sequence[tuple[tuple[Callable[[Any], bool] | None, int], ...] | None],
        first_only: Sequence[bool],
    ) -> None: ...

class Terms:
    def __init__(
        self,
        *,
        functions: dict[str, Any],
        work: type[WorkFields],
        now: Callable[[], int],
        ticks: int,
        copy: Callable[[Any], dict[str, Any]],
        forgetful: bool,
        steps: int,
        room: int,
    ) -> None: ...

class Express:
    landed: bool
    length: int
    next_item: int
    cuts: list[tuple[int, int]]
    job: tuple[int, int, int, Any] | None
    output: Any
    error: Exception | None
    mark: int
    def __init__(
        self,
        of: ExpressNet,
        terms: Terms,
        marking: Marking,
        log: list[tuple[Any, ...]],
        data: dict[str, Any],
        next_item: int,
        case_id: str,
        number: int,
        lock: Any,
    ) -> None: ...
    handler: str
    def begin(self, task: int, number: int, attempt: int) -> None: ...
    def begun(self) -> list[tuple[int, int, int]]: ...
    def left(self) -> list[int]: ...
    def go(self) -> int: ...
    def note(self, record: bytes) -> None: ...
    def written(self) -> bytes: ...
    def flush(self) -> None: ...
