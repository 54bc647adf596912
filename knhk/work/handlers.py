"""Handlers: the functions of the user's program that do a task's work."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import attrs

Output = Mapping[str, Any] | None
Handler = Callable[["Work"], Output] | Callable[["Work"], Awaitable[Output]]
_H = TypeVar("_H", bound=Callable[..., Any])


@attrs.frozen(kw_only=True)
class Work:
    """
    What a handler is given.

    Args:
        case_id, task: where the work comes from; `task` is its path.
        idempotency_key: the same for every attempt at this piece of work, and for no other.
        attempt: 1 for the first; more when an earlier attempt failed or was cut off before its result was committed.
        data: a copy of the case's data.
        item, index: the element and position of a multiple instance, else None.
    """

    case_id: str
    task: str
    idempotency_key: str
    attempt: int
    data: dict[str, Any]
    item: Any = None
    index: int | None = None


class Handlers:
    """Functions by the name under which tasks ask for them."""

    def __init__(self) -> None:
        self._functions: dict[str, Callable[[Work], Any]] = {}

    def register(self, name: str) -> Callable[[_H], _H]:
        """Return a decorator that names a function; a later one of the same name takes its place."""

        def decorate(function: _H) -> _H:
            self._functions[name] = function
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
        if inspect.iscoroutinefunction(function):
            message = f"handler {name!r} is asynchronous: run its cases with knhk.AsyncEngine"
            raise TypeError(message)
        return function(work)
