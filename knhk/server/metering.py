"""What a store is asked, timed; and what its commits say happened, counted."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from knhk._codes import Code
from knhk.errors import KnhkError
from knhk.journal import read_records
from knhk.ports import Commit, Store
from knhk.server.figures import Figures
from knhk.server.observing import Stopwatch

_TIMED: Final = (
    "load",
    "history",
    "header",
    "cases",
    "items",
    "due",
    "runnable",
    "find_idempotent",
    "write",
    "document",
    "documents",
    "put_specification",
    "specification",
    "specifications",
    "quarantine",
)
_STEPS: Final = {
    Code.FIRED.value: "fired",
    Code.BEGUN.value: "started",
    Code.FINISHED.value: "completed",
    Code.FORCED.value: "completed",
    Code.RAISED.value: "failed",
    Code.ABORTED.value: "cancelled",
}


class _MeteredStore:
    """A store that is timed; whatever is not timed goes to the one underneath as it is."""

    def __init__(self, store: Store, figures: Figures) -> None:
        self._store = store
        self._figures = figures
        for name in _TIMED:
            setattr(self, name, self._timed(name, getattr(store, name)))
        self._commit = self._timed("commit", store.commit)
        self._commit_each = self._timed("commit_each", store.commit_each)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, commits: Sequence[Commit]) -> None:
        """Store all steps in one transaction, or none and raise."""
        self._commit(commits)
        for each in commits:
            self._count(each)

    def commit_each(self, calls: Sequence[Sequence[Commit]]) -> list[KnhkError | None]:
        """Store each call whole, or refuse it; all of them are timed as one."""
        outcomes: list[KnhkError | None] = self._commit_each(calls)
        for commits, error in zip(calls, outcomes, strict=True):
            if error is not None:
                self._figures.store_errors.labels("commit_each", type(error).__name__).inc()
                continue
            for each in commits:
                self._count(each)
        return outcomes

    def _timed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        seconds = self._figures.store_seconds.labels(name)
        errors = self._figures.store_errors

        @functools.wraps(method)
        def timed(*arguments: Any, **named: Any) -> Any:
            watch = Stopwatch()
            try:
                return method(*arguments, **named)
            except KnhkError as error:
                errors.labels(name, type(error).__name__).inc()
                raise
            finally:
                seconds.observe(watch.seconds())

        return timed

    def _count(self, commit: Commit) -> None:
        figures = self._figures
        steps: Counter[str] = Counter()
        for record in read_records(commit.batch):
            code = record[0]
            step = _STEPS.get(code)
            if step is not None:
                steps[step] += 1
            elif code == Code.CREATED:
                figures.transitions.labels("created").inc()
            elif code == Code.STARTED:
                figures.transitions.labels("running").inc()
            elif code == Code.PHASE:
                figures.transitions.labels(record[1]).inc()
        for step, count in steps.items():
            figures.steps.labels(step).inc(count)


def metered(store: Store, figures: Figures) -> Store:
    """Return a store that is timed, and whose commits are counted."""
    return cast("Store", _MeteredStore(store, figures))
