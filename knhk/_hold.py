"""A case that is held: locked against others, and kept in memory."""

from __future__ import annotations

from typing import Protocol

from knhk._resident import Resident


class Keeper(Protocol):
    """Where cases are in memory; `knhk._cache.CaseCache` is one."""

    def pin(self, case_id: str) -> Resident:
        """Return the case and keep it in memory until `unpin`."""

    def unpin(self, resident: Resident) -> None:
        """Take back one `pin`."""

    def take_over(self, resident: Resident) -> bool:
        """Bring a case that the caller pinned and locked to where the driver would have; False where it is stale."""


class Hold:
    """What `CaseCache.hold` returns; a generator would do, and cost twice as much."""

    __slots__ = ("_cache", "_case_id", "_resident")

    def __init__(self, cache: Keeper, case_id: str) -> None:
        self._cache = cache
        self._case_id = case_id

    def __enter__(self) -> Resident:
        cache = self._cache
        while True:
            resident = cache.pin(self._case_id)
            resident.lock.acquire()
            self._resident = resident
            try:
                good = cache.take_over(resident)
            except BaseException:
                self.__exit__()
                raise
            if good:
                return resident
            self.__exit__()

    def __exit__(self, *error: object) -> None:
        self._resident.lock.release()
        self._cache.unpin(self._resident)
