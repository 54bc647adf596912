"""Handlers: the functions of the user's program that do a task's work."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from knhk._hot import WorkFields
from knhk._plain import whole_copy

Output = Mapping[str, Any] | None
Handler = Callable[["Work"], Output] | Callable[["Work"], Awaitable[Output]]
_H = TypeVar("_H", bound=Callable[..., Any])


class Work(WorkFields):
    """
    What a handler is given.

    Attributes:
        case_id, task: where the work comes from; `task` is its path.
        attempt: 1 for the first; more when an earlier attempt failed or was cut off before its result was committed.
        item, index: the element and position of a multiple instance, else None.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<work {self._number} {self.task} of case {self.case_id}, attempt {self.attempt}>"

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this piece of work, and for no other."""
        return f"{self.case_id}:{self._number}"

    @property
    def data(self) -> dict[str, Any]:
        """A copy of the case's data as they were when the handler began."""
        # Whoever lets the source change afterwards asks for the copy before.
        if self._data is None:
            self._data = whole_copy(self._source)
        return self._data


class Handlers:
    """
    Functions by the name under which tasks ask for them.

    Attributes:
        plain: those that are not asynchronous.
    """

    def __init__(self) -> None:
        self._functions: dict[str, Callable[[Work], Any]] = {}
        self.plain: dict[str, Callable[[Work], Any]] = {}

    def register(self, name: str) -> Callable[[_H], _H]:
        """Return a decorator that names a function; a later one of the same name takes its place."""

        def decorate(function: _H) -> _H:
            self._functions[name] = function
            self.plain.pop(name, None)
            if not inspect.iscoroutinefunction(function):
                self.plain[name] = function
            return function

        return decorate

    def find(self, name: str) -> Callable[[Work], Any]:
        """Return the function; raises LookupError, which fails the work item that asked for it."""
        function = self._functions.get(name)
        if function is None:
            message = f"no handler {name!r} is registered"
            raise LookupError(message)
        return function

    def call(self, name: str, work: Work) -> Any:
        """Call a plain function; an asynchronous one needs `AsyncEngine` and is refused."""
        function = self.find(name)
        if name not in self.plain:
            message = f"handler {name!r} is asynchronous: run its cases with knhk.AsyncEngine"
            raise TypeError(message)
        return function(work)
