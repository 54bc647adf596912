"""Commands of one thread on several cases whose commits share one wait of the store: pipelining.

The commands run one after the other, each on its own case, and what they did to it waits in memory: locked, so that nobody sees
what is not stored yet.
Then all of it goes to the store at once (`knhk.ports.Store.commit_each`), and each command gets an outcome of its own: a case
whose commit is refused is forgotten, as everywhere, and takes no other along.

Nobody waits for a lock while he has others' cases: where the next case is somebody else's at that moment, or is among those that
wait already, what waits is stored first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Generic, Protocol, TypeVar

import attrs

from knhk._hold import Holdable, UnseenHold
from knhk._resident import Resident
from knhk._sharing import under
from knhk.errors import ConcurrentUpdate, IdempotencyConflict, KnhkError
from knhk.ports import Commit, Store

_T = TypeVar("_T")


@attrs.define(eq=False)
class Outcome(Generic[_T]):
    """
    What became of one command of a pipeline: what it did is durable, or it has an error.

    Args:
        command: the command.
        value: what it returned; None where it has an error.
        error: what it raised, or why its commit was refused.
    """

    command: Callable[[], _T] = attrs.field(repr=False)
    value: _T | None = None
    error: Exception | None = None
    _commits: int = attrs.field(default=0, init=False, repr=False)

    def result(self) -> _T:
        """Return what the command returned; raises its error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # without an error it is what the command returned

    def _run(self) -> None:
        try:
            self.value, self.error = self.command(), None
        except Exception as error:  # noqa: BLE001 - it is raised where the caller asks for the result
            self.value, self.error = None, error


class Held(Protocol):
    """A case whose commits wait."""

    def keep(self, commits: Sequence[Commit]) -> None:
        """Its commits are stored."""

    def drop(self) -> None:
        """Its commits are refused, or nothing is known of them."""

    def end(self) -> None:
        """Whatever became of them has been noted."""


class Gatherable(Holdable, Protocol):
    """What a pipeline needs of the cases in memory."""

    store: Store

    def forget(self, resident: Resident) -> None:
        """Let a case go: the store knows better."""

    def stored(self, resident: Resident, commits: Sequence[Commit]) -> None:
        """Note that commits of a held case are in the store now, and tell whoever has to know."""

    def admit(self, resident: Resident, commits: Sequence[Commit]) -> None:
        """Keep a new case, whose first commits are in the store now."""


class HeldForCommand(UnseenHold):
    """A hold for a command of a pipeline: where that writes anything it lasts until the outcome of its commit is known."""

    __slots__ = ("_ended", "_pipeline")

    _cache: Gatherable

    def __init__(self, cache: Gatherable, case_id: str, pipeline: Pipeline) -> None:
        super().__init__(cache, case_id)
        self._pipeline = pipeline
        self._ended = False

    def __enter__(self) -> Resident:
        cache, pipeline = self._cache, self._pipeline
        while True:
            pipeline.make_way(self._case_id)
            resident = cache.pin(self._case_id)
            if not resident.lock.acquire(blocking=not pipeline.waits):
                cache.unpin(resident)
                pipeline.flush()
                continue
            try:
                self._resident = resident
                if not resident.stale and (resident.journey is None or cache.take_over(resident)):
                    resident.seen = not pipeline.shares
                    pipeline.open = self
                    resident.depth += 1
                    return resident
            except BaseException:
                self._release()
                raise
            self._release()

    def __exit__(self, *error: object) -> None:
        self._pipeline.open = None
        if not self._pipeline.keeps(self):
            super().__exit__(*error)

    def has(self, resident: Resident) -> bool:
        """Whether it is this case that is held."""
        return self._resident is resident

    def keep(self, commits: Sequence[Commit]) -> None:
        """Note that its commits are stored."""
        self._cache.stored(self._resident, commits)

    def drop(self) -> None:
        """Forget what is not stored."""
        self._cache.forget(self._resident)

    def end(self) -> None:
        """Let the case go, once."""
        if not self._ended:
            self._ended = True
            # Its commit has looked.
            self._resident.seen = True
            super().__exit__()


@attrs.frozen(eq=False)
class Newcomer:
    """A case that a command of a pipeline has created; nobody else has it before it is stored."""

    cache: Gatherable
    resident: Resident

    def keep(self, commits: Sequence[Commit]) -> None:
        """Keep the case."""
        self.cache.admit(self.resident, commits)

    def drop(self) -> None:
        """Leave it: there is no such case."""

    def end(self) -> None:
        """Nobody waits for it."""


class Pipeline:
    """
    What one thread's commands have done to cases and the store does not have yet.

    Args:
        cache: the cases in memory.
        shares: whether other instances may have moved a case.

    Attributes:
        open: the hold of the command that runs at the moment, as long as it has written nothing.
    """

    def __init__(self, cache: Gatherable, *, shares: bool) -> None:
        self._cache = cache
        self._waiting: list[tuple[Held, Sequence[Commit], Outcome[Any]]] = []
        self._cases: set[str] = set()
        self._current: Outcome[Any] | None = None
        self.open: HeldForCommand | None = None
        self.shares = shares

    @property
    def waits(self) -> bool:
        """Whether anything waits to be stored."""
        return bool(self._waiting)

    @property
    def is_at_work(self) -> bool:
        """Whether a command runs whose commit may wait; else commands are as they always are."""
        return self._current is not None

    def run(self, commands: Sequence[Callable[[], _T]]) -> list[Outcome[_T]]:
        """Do commands and store what they did; returns their outcomes, in their order."""
        outcomes = [Outcome(each) for each in commands]
        try:
            for each in outcomes:
                self._current = each
                each._run()
            self._current = None
            self.flush()
        except BaseException:
            # An interrupt, wherever it came: nobody has been told anything of what waits.
            self._note(self._waiting, None)
            raise
        return outcomes

    def make_way(self, case_id: str) -> None:
        """Store what waits where a case is among it: its next command begins where the store has it."""
        if case_id in self._cases:
            self.flush()

    def take(self, resident: Resident, commits: Sequence[Commit]) -> bool:
        """Let commits wait where they are of the command that runs; False where they are not, and have to be stored at once."""
        hold = self.open
        if hold is None or not hold.has(resident):
            return False
        self._add(hold, resident, commits)
        return True

    def keeps(self, hold: HeldForCommand) -> bool:
        """Whether what was done under the last hold waits."""
        return bool(self._waiting) and self._waiting[-1][0] is hold

    def take_new(self, resident: Resident, commits: Sequence[Commit]) -> None:
        """Let the first commits of a case wait that the command that runs has created."""
        self._add(Newcomer(self._cache, resident), resident, commits)

    def flush(self) -> None:
        """
        Store what waits, and tell its commands; those that somebody else was faster than are done again, one by one.

        Raises:
            KnhkError: what the command that runs did before is refused: it must not go on.
        """
        if not self._waiting:
            return
        waiting = self._waiting
        errors: list[KnhkError | None] | None = None
        try:
            errors = self._cache.store.commit_each([commits for _, commits, _ in waiting])
        finally:
            self._note(waiting, errors)
            self._waiting, self._cases = [], set()
        current, self._current = self._current, None
        own: KnhkError | None = None
        for (_, _, outcome), error in zip(waiting, errors, strict=True):
            if outcome is current:
                own = own or error
            elif error is not None:
                self._tell(outcome, error)
        self._current = current
        if own is not None:
            raise own

    def _add(self, held: Held, resident: Resident, commits: Sequence[Commit]) -> None:
        if self._current is not None:
            self._current._commits += 1
            self._cases.add(resident.header.case_id)
            self._waiting.append((held, under(commits, resident.tenure), self._current))

    @staticmethod
    def _note(
        waiting: Sequence[tuple[Held, Sequence[Commit], Outcome[Any]]], errors: Sequence[KnhkError | None] | None
    ) -> None:
        """Let cases go: those that are stored as they are, the others forgotten; without errors nothing is known of any."""
        with ExitStack() as held:
            for each, _, _ in waiting:
                held.callback(each.end)
                if errors is None:
                    each.drop()
            for (each, commits, _), error in zip(waiting, errors or (), strict=False):
                if error is None:
                    each.keep(commits)
                else:
                    each.drop()

    def _tell(self, outcome: Outcome[Any], error: KnhkError) -> None:
        outdone = self.shares and isinstance(error, ConcurrentUpdate)
        if outcome._commits == 1 and (outdone or isinstance(error, IdempotencyConflict)):
            # Nothing of it is stored: it is done again on what is there now, as a command by itself would be.
            outcome._run()
        else:
            outcome.value, outcome.error = None, error


class Pipelines(dict[int, Pipeline]):
    """The pipelines under way, by the thread that each is of."""

    def of_command(self) -> Pipeline | None:
        """Return this thread's, if a command of it runs whose commit may wait."""
        found = self.get(threading.get_ident())
        return None if found is None or not found.is_at_work else found

    def flush(self) -> None:
        """Store what waits in this thread's, before the thread does anything but a command."""
        found = self.get(threading.get_ident())
        if found is not None:
            found.flush()

    def run(self, pipeline: Pipeline, commands: Sequence[Callable[[], _T]]) -> list[Outcome[_T]]:
        """Do commands by a pipeline that is this thread's meanwhile."""
        thread = threading.get_ident()
        before = self.get(thread)
        if before is not None:
            before.flush()
        try:
            self[thread] = pipeline
            return pipeline.run(commands)
        finally:
            if before is None:
                self.pop(thread, None)
            else:
                self[thread] = before
