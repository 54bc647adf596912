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
from itertools import repeat
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
    # Its commits, and what it did besides that may be stored: only what has one part can be done again.
    _parts: int = attrs.field(default=0, init=False, repr=False)

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
    """A case whose commits wait, and whose they are."""

    commits: Sequence[Commit]
    outcome: Outcome[Any]

    def keep(self) -> None:
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

    __slots__ = ("_ended", "_pipeline", "commits", "outcome")

    _cache: Gatherable
    commits: Sequence[Commit]
    outcome: Outcome[Any]

    def __init__(self, cache: Gatherable, case_id: str, pipeline: Pipeline) -> None:
        super().__init__(cache, case_id)
        self._pipeline = pipeline
        self._ended = False

    def __enter__(self) -> Resident:
        cache, pipeline = self._cache, self._pipeline
        while True:
            if self._case_id in pipeline.cases:
                # Its next command begins where the store has it.
                pipeline.flush()
            resident = cache.pin(self._case_id)
            if not resident.lock.acquire(blocking=not pipeline.waiting):
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
        pipeline = self._pipeline
        pipeline.open = None
        if not pipeline.waiting or pipeline.waiting[-1] is not self:
            super().__exit__(*error)

    def has(self, resident: Resident) -> bool:
        """Whether it is this case that is held."""
        return self._resident is resident

    def keep(self) -> None:
        """Note that its commits are stored."""
        self._cache.stored(self._resident, self.commits)

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


@attrs.define(eq=False)
class Newcomer:
    """A case that a command of a pipeline has created; nobody else has it before it is stored."""

    cache: Gatherable
    resident: Resident
    commits: Sequence[Commit]
    outcome: Outcome[Any]

    def keep(self) -> None:
        """Keep the case."""
        self.cache.admit(self.resident, self.commits)

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
        waiting: what waits to be stored, in the order of the commands.
        cases: the ids of their cases.
        open: the hold of the command that runs at the moment, as long as it has written nothing.
        current: the outcome of that command; None: commands are as they always are.
    """

    def __init__(self, cache: Gatherable, *, shares: bool) -> None:
        self._cache = cache
        self.waiting: list[Held] = []
        self.cases: set[str] = set()
        self.current: Outcome[Any] | None = None
        self.open: HeldForCommand | None = None
        self.shares = shares

    def run(self, commands: Sequence[Callable[[], _T]]) -> list[Outcome[_T]]:
        """Do commands and store what they did; returns their outcomes, in their order."""
        outcomes = [Outcome(each) for each in commands]
        try:
            for each in outcomes:
                self.current = each
                each._run()
            self.current = None
            self.flush()
        except BaseException:
            # An interrupt, wherever it came: nobody has been told anything of what waits.
            self._note(None)
            raise
        return outcomes

    def take(self, resident: Resident, commits: Sequence[Commit]) -> bool:
        """Let commits wait where they are of the command that runs; False where they are not, and have to be stored at once."""
        hold, outcome = self.open, self.current
        if hold is None or outcome is None or not hold.has(resident):
            return False
        hold.commits, hold.outcome = under(commits, resident.tenure), outcome
        self._add(hold, resident.header.case_id)
        return True

    def take_new(self, resident: Resident, commits: Sequence[Commit]) -> bool:
        """Let the first commits of a case wait that the command that runs has created; False as `take`."""
        if self.current is None:
            return False
        self._add(Newcomer(self._cache, resident, commits, self.current), resident.header.case_id)
        return True

    def flush(self) -> None:
        """
        Store what waits, and tell its commands; those that somebody else was faster than are done again, one by one.

        Raises:
            KnhkError: what the command that runs did before is refused: it must not go on.
        """
        if not self.waiting:
            return
        errors: list[KnhkError | None] | None = None
        try:
            errors = self._cache.store.commit_each([each.commits for each in self.waiting])
        finally:
            told = self._note(errors)
        current, self.current = self.current, None
        own: KnhkError | None = None
        for outcome, error in told:
            if outcome is current:
                own = own or error
            else:
                self._tell(outcome, error)
        self.current = current
        if own is not None:
            raise own

    def _add(self, held: Held, case_id: str) -> None:
        held.outcome._parts += 1
        self.cases.add(case_id)
        self.waiting.append(held)

    def _note(self, errors: Sequence[KnhkError | None] | None) -> list[tuple[Outcome[Any], KnhkError]]:
        """
        Let cases go: those that are stored as they are, the others forgotten; without errors nothing is known of any.

        Returns:
            Who is refused, and why.
        """
        waiting = self.waiting
        told: list[tuple[Outcome[Any], KnhkError]] = []
        try:
            for each, error in zip(waiting, errors or repeat(None), strict=False):
                if errors is not None and error is None:
                    each.keep()
                else:
                    each.drop()
                if error is not None:
                    told.append((each.outcome, error))
        except BaseException:
            for each in waiting:
                each.drop()
            raise
        finally:
            for each in waiting:
                each.end()
            self.waiting, self.cases = [], set()
        return told

    def _tell(self, outcome: Outcome[Any], error: KnhkError) -> None:
        outdone = self.shares and isinstance(error, ConcurrentUpdate)
        if outcome._parts == 1 and (outdone or isinstance(error, IdempotencyConflict)):
            # Nothing of it is stored: it is done again on what is there now, as a command by itself would be.
            outcome._run()
        else:
            outcome.value, outcome.error = None, error


class Pipelines(dict[int, Pipeline]):
    """The pipelines under way, by the thread that each is of."""

    def of_command(self) -> Pipeline | None:
        """Return this thread's, if a command of it runs whose commit may wait."""
        found = self.get(threading.get_ident())
        return None if found is None or found.current is None else found

    def flush(self) -> None:
        """Store what waits in this thread's."""
        found = self.get(threading.get_ident())
        if found is not None:
            found.flush()

    def step_aside(self) -> None:
        """Store what waits in this thread's, before a command of it does anything but give commands."""
        found = self.get(threading.get_ident())
        if found is not None:
            if found.current is not None:
                found.current._parts += 1
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
