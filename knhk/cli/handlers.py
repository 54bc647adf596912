"""The user's functions: Python files and modules named on the command line."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import click

from knhk.cli.failures import DATA, NOT_FOUND, USAGE, Failure
from knhk.client import Worker
from knhk.engine import Engine
from knhk.errors import KnhkError
from knhk.people import Directory
from knhk.ports import Store
from knhk.spec import Specification
from knhk.work.handlers import Work

_H = TypeVar("_H", bound=Callable[..., Any])


class HandlerEngine(Engine):
    """
    An engine that knows the names of its handlers, and tells before it calls one.

    Attributes:
        names: the handlers that are there.
        announce: called with the work before its handler is.
    """

    def __init__(self, store: Store, directory: Directory | None = None) -> None:
        super().__init__(store, directory=directory)
        self.names: set[str] = set()
        self.announce: Callable[[Work], None] = lambda _: None

    def handler(self, name: str, *, concurrency: int | None = None) -> Callable[[_H], _H]:
        """Name a function as the handler of the tasks that ask for it."""
        register = super().handler(name, concurrency=concurrency)

        def decorate(function: _H) -> _H:
            if not callable(function) or inspect.iscoroutinefunction(function):
                kind = "asynchronous: the command line calls plain functions" if callable(function) else "no function"
                raise Failure(f"handler {name!r} is {kind}", USAGE)

            @functools.wraps(function)
            def announced(work: Work) -> Any:
                self.announce(work)
                return function(work)

            self.names.add(name)
            register(announced)
            return function

        return decorate


class Handlers:
    """
    What ``--handlers`` gave.

    Args:
        names: Python files and modules; they are imported at once, and what they print goes to stderr.

    Raises:
        Failure: one cannot be imported, or has no handlers.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)
        with contextlib.redirect_stdout(sys.stderr):
            self._modules = [_load(name) for name in names]
        for name, module in zip(names, self._modules, strict=True):
            if _register_of(module) is None and not _handlers_of(module):
                raise Failure(
                    f"{name} has neither HANDLERS = {{name: function}} nor a function register(engine)", USAGE
                )

    @property
    def known(self) -> set[str] | None:
        """The names of all handlers, or None where only ``register(engine)`` can tell."""
        if any(_register_of(module) for module in self._modules):
            return None
        return {name for module in self._modules for name in _handlers_of(module)}

    def give(self, engine: HandlerEngine) -> None:
        """Register the handlers with an engine."""
        self._give(engine, engine.handler)

    def give_worker(self, worker: Worker) -> None:
        """Let a worker elsewhere call the functions, each for the topic that it is named after."""
        self._give(worker, worker.task)

    def _give(self, whom: object, name_it: Callable[[str], Callable[[Any], Any]]) -> None:
        for module in self._modules:
            register = _register_of(module)
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    for name, function in _handlers_of(module).items():
                        name_it(name)(function)
                    if register is not None:
                        register(whom)
            except (click.ClickException, KnhkError):
                raise
            except Exception as error:
                raise _blamed(f"what {module.__name__} has cannot be registered", error) from error


def _handlers_of(module: ModuleType) -> dict[str, Callable[..., Any]]:
    handlers = getattr(module, "HANDLERS", None)
    return {str(name): function for name, function in handlers.items()} if isinstance(handlers, Mapping) else {}


def _register_of(module: ModuleType) -> Callable[[Any], object] | None:
    register = getattr(module, "register", None)
    return register if callable(register) else None


def _load(name: str) -> ModuleType:
    path = Path(name)
    try:
        if path.suffix == ".py" or path.is_file():
            return _load_file(path)
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return import_module(name)
    except click.ClickException:
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise Failure(f"there is no Python file or module {name!r} to take handlers from", NOT_FOUND) from error
        raise _blamed(f"{name} cannot be imported", error) from error


def _blamed(what: str, error: Exception) -> Failure:
    """Tell of an exception in the user's code."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = "".join(traceback.format_exception_only(error)).strip()
    return Failure(f"{what}: {text} ({place.filename}:{place.lineno})", DATA)


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise Failure(f"there is no file {path} to take handlers from", NOT_FOUND)
    # As with `python FILE`, what lies beside the file can be imported.
    sys.path.insert(0, str(path.resolve().parent))
    name = path.stem if path.stem not in sys.modules else f"knhk_handlers_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Failure(f"{path} is not a Python file", USAGE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def asked_for(specification: Specification) -> dict[str, str]:
    """Return the handlers that a specification asks for, each with the first task that does."""
    found: dict[str, str] = {}
    for net_name, net in specification.nets().items():
        for task in net.tasks:
            place = f"{task.id} of subnet {net_name}" if net_name else task.id
            if task.handler is not None:
                found.setdefault(task.handler, place)
            if task.compensate is not None:
                found.setdefault(task.compensate.handler, place)
    return found


def require(specification: Specification, names: set[str]) -> None:
    """Refuse to run a specification whose tasks ask for handlers that are not there."""
    missing = {name: task for name, task in asked_for(specification).items() if name not in names}
    if not missing:
        return
    lines = [f"  task {task}: handler {name!r}" for name, task in missing.items()]
    example = ", ".join(f'"{name}": {name if name.isidentifier() else "function"}' for name in list(missing)[:3])
    more = ", ..." if len(missing) > 3 else ""
    raise Failure(
        "\n".join(
            [
                f"specification {specification.id!r} asks for handlers that are not there; nothing has run:",
                *lines,
                f"give them with --handlers FILE.py, where FILE.py has HANDLERS = {{{example}{more}}}",
                "and each function takes the work (work.data, ...) and returns a dict with its output, or None",
            ]
        ),
        USAGE,
    )
