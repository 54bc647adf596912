"""Handlers: the functions of the user's program that do a task's work."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeVar

import attrs

from knhk._hot import WorkFields
from knhk._plain import plain_data, whole_copy
from knhk.ports import Chance
from knhk.spec import Http
from knhk.work.admission import Admission
from knhk.work.attempt import Attempt, Watch
from knhk.workitem import Completion

_LOG = logging.getLogger("knhk.work")
Output = Mapping[str, Any] | None
Handler = Callable[["Work"], Output] | Callable[["Work"], Awaitable[Output]]
_H = TypeVar("_H", bound=Callable[..., Any])


@attrs.frozen(kw_only=True)
class Completed:
    """
    Work that has completed and is undone now.

    Args:
        task: its path.
        idempotency_key: the key under which it was done; "" for a composite task.
        output: what it gave.
    """

    task: str
    idempotency_key: str
    output: Mapping[str, Any]


class Work(WorkFields):
    """
    What a handler is given.

    Attributes:
        case_id, task: where the work comes from; `task` is its path.
        attempt: 1 for the first; more when an earlier attempt failed or was cut off before its result was committed.
        item, index: the element and position of a multiple instance, else None.
    """

    __slots__ = ("_live", "_progress", "_undoes")
    _live: Attempt
    _undoes: Completion | None
    _progress: Any

    def __repr__(self) -> str:
        return f"<work {self._number} {self.task} of case {self.case_id}, attempt {self.attempt}>"

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this piece of work, and for no other."""
        return f"{self.case_id}:{self._number}"

    @property
    def compensates(self) -> Completed | None:
        """What this work undoes, if it is a compensation; else None."""
        found: Completion | None = getattr(self, "_undoes", None)
        if found is None:
            return None
        key = f"{self.case_id}:{found.item}" if found.item else ""
        return Completed(task=found.path, idempotency_key=key, output=plain_data(found.output, "the output"))

    @property
    def data(self) -> dict[str, Any]:
        """A copy of the case's data as they were when the handler began."""
        # Whoever lets the source change afterwards asks for the copy before.
        if self._data is None:
            self._data = whole_copy(self._source)
        return self._data

    @property
    def cancelled(self) -> bool:
        """
        Whether nobody wants the result any more: the case or its task was cancelled, the time is up, the engine stops.

        A handler that takes long looks here from time to time, and stops.
        """
        live = self._attempt()
        return live is not None and (live.lost != "" or live.verdict() is not None)

    @property
    def progress(self) -> Any:
        """What the last heartbeat said that is on record of an earlier attempt at this work; None: nothing."""
        return getattr(self, "_progress", None)

    @property
    def log(self) -> WorkLog:
        """A logger that says which case, task and attempt its lines belong to, in their text and as `extra`."""
        return WorkLog(_LOG, {"case_id": self.case_id, "task": self.task, "attempt": self.attempt})

    def heartbeat(self, details: object = None) -> None:
        """
        Say that the handler is alive, where its task has a `heartbeat`, and how far it has come.

        Args:
            details: JSON data of which the last are the next attempt's `progress`, should there be one: they are put on record
                when this attempt fails or is handed back, and by a runner every ten seconds.

        Raises:
            DataError: they are not JSON data.
        """
        said = None if details is None else plain_data({"said": details}, "what a heartbeat says")["said"]
        live = self._attempt()
        if live is None:
            live = self._live = Attempt(_no_clock)
        live.beat(said)

    def _attempt(self) -> Attempt | None:
        # Work that an express hands out is made without it.
        found: Attempt | None = getattr(self, "_live", None)
        return found


def _no_clock() -> int:
    """Tell an attempt without limits the time, which it does not ask for."""
    return 0


class WorkLog(logging.LoggerAdapter[logging.Logger]):
    """A logger adapter whose lines begin with what they are about."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Put case, task and attempt before the text, and into `extra` beside what the caller gave."""
        about: Mapping[str, Any] = self.extra or {}
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **about}
        return f"case {about['case_id']} {about['task']} attempt {about['attempt']}: {msg}", kwargs


class Handlers:
    """
    Functions by the name under which tasks ask for them.

    Args:
        ticks: tells the time in milliseconds, and never runs backwards.
        chance: where the waits between attempts are drawn from.
        services: the functions that make the requests of tasks.
        timeout: how many milliseconds an attempt may take whose task says nothing of it; None: no limit.

    Attributes:
        plain: those that an express may call: neither asynchronous nor limited.
        limits: how many run at once, by name, where that is limited.
        admission: who may begin.
        watch: calls what has a time limit.
    """

    def __init__(
        self,
        ticks: Callable[[], int],
        chance: Chance,
        *,
        services: Callable[[Http], Callable[[Work], Any]],
        timeout: int | None = None,
    ) -> None:
        self.services = services
        self.ticks = ticks
        self.chance = chance
        self.timeout = timeout
        self.admission = Admission(ticks)
        self.watch = Watch()
        self._functions: dict[str, Callable[[Work], Any]] = {}
        self._asynchronous: set[str] = set()
        self.plain: dict[str, Callable[[Work], Any]] = {}
        self.limits: dict[str, int] = {}

    def register(self, name: str, *, concurrency: int | None = None) -> Callable[[_H], _H]:
        """
        Return a decorator that names a function; a later one of the same name takes its place.

        Args:
            name: under which tasks ask for it.
            concurrency: how many of it run at once; None: no limit.

        Raises:
            ValueError: `concurrency` is not at least 1.
        """
        if concurrency is not None and concurrency < 1:
            message = f"handler {name!r}: concurrency must be at least 1, not {concurrency}"
            raise ValueError(message)

        def decorate(function: _H) -> _H:
            self._functions[name] = function
            self.plain.pop(name, None)
            self.limits.pop(name, None)
            self._asynchronous.discard(name)
            if inspect.iscoroutinefunction(function):
                self._asynchronous.add(name)
            if concurrency is not None:
                self.limits[name] = concurrency
            elif name not in self._asynchronous:
                self.plain[name] = function
            return function

        return decorate

    def find(self, name: str | Http) -> Callable[[Work], Any]:
        """Return the function, or what makes a request; raises LookupError, which fails the work item that asked for it."""
        if isinstance(name, Http):
            return self.services(name)
        function = self._functions.get(name)
        if function is None:
            message = f"no handler {name!r} is registered"
            raise LookupError(message)
        return function

    def find_plain(self, name: str | Http) -> Callable[[Work], Any]:
        """Return the function; an asynchronous one needs `AsyncEngine` and is refused with a TypeError."""
        function = self.find(name)
        if name in self._asynchronous:
            message = f"handler {name!r} is asynchronous: run its cases with knhk.AsyncEngine"
            raise TypeError(message)
        return function
