"""Having one case of those in memory to oneself: locked, in memory as long as that, and as the store has it."""

from __future__ import annotations

from typing import Protocol

from knhk._resident import Resident


class Holdable(Protocol):
    """What a hold needs of the cases in memory."""

    def pin(self, case_id: str) -> Resident:
        """Return the case and keep it in memory."""

    def unpin(self, resident: Resident) -> None:
        """Take back one pin."""

    def take_over(self, resident: Resident) -> bool:
        """Bring a pinned and locked case to where the driver would have it; False where it is stale."""

    def is_current(self, resident: Resident) -> bool:
        """Whether a case is as the store has it; it is forgotten where it is not."""

    def refuse_moved(self, resident: Resident) -> None:
        """Raise where a case is not as the store has it."""


class Hold:
    """What `CaseCache.hold` returns; a generator would do, and cost twice as much."""

    __slots__ = ("_cache", "_case_id", "_resident")

    def __init__(self, cache: Holdable, case_id: str) -> None:
        self._cache = cache
        self._case_id = case_id

    def __enter__(self) -> Resident:
        cache = self._cache
        while True:
            resident = cache.pin(self._case_id)
            resident.lock.acquire()
            self._resident = resident
            if not resident.stale and resident.journey is None:
                return resident
            try:
                good = cache.take_over(resident)
            except BaseException:
                self._release()
                raise
            if good:
                return resident
            self._release()

    def _release(self, *_: object) -> None:
        self._resident.lock.release()
        self._cache.unpin(self._resident)

    __exit__ = _release


class SharedHold(Hold):
    """A hold where other instances may have moved the case: whoever is the first to have its lock looks into the store."""

    __slots__ = ()

    def __enter__(self) -> Resident:
        cache = self._cache
        while True:
            resident = super().__enter__()
            resident.depth += 1
            try:
                if resident.depth > 1 or cache.is_current(resident):
                    resident.seen = True
                    return resident
            except BaseException:
                self.__exit__()
                raise
            self.__exit__()

    def __exit__(self, *error: object) -> None:
        self._resident.depth -= 1
        self._release()


class UnseenHold(SharedHold):
    """
    A hold for a command where other instances may have moved the case: nobody looks into the store first.

    What the command writes is compared with the store when it is committed.
    Where it was refused, or wrote nothing, the end of the hold looks, and raises ConcurrentUpdate where the case has moved: what
    was refused may be right there.
    """

    __slots__ = ()

    def __enter__(self) -> Resident:
        resident = Hold.__enter__(self)
        resident.depth += 1
        resident.seen = False
        return resident

    def __exit__(self, *error: object) -> None:
        resident = self._resident
        try:
            if not resident.seen and not resident.stale:
                interrupted = bool(error) and error[1] is not None and not isinstance(error[1], Exception)
                if not interrupted:
                    self._cache.refuse_moved(resident)
        finally:
            resident.depth -= 1
            self._release()
