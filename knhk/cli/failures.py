"""Errors as the command line tells them: a message on stderr and an exit code, never a traceback."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import click

from knhk.errors import (
    CommandError,
    DataError,
    HandlerError,
    InternalError,
    JournalError,
    KnhkError,
    MissingExtra,
    OutboundError,
    ResponseRefused,
    SpecificationError,
    StoreError,
    UnknownCase,
    UnknownSpecification,
    UnknownWorkItem,
)

NO: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
REFUSED: Final = 4
STORE: Final = 5
DATA: Final = 6
UNDECIDED: Final = 7
BUG: Final = 70
STOPPED: Final = 130

EXIT_CODES: Final = {
    0: "ok",
    NO: "the answer is no: not well-formed, not sound, the case failed or deadlocked, or a trace does not fit",
    USAGE: "wrong usage: an option, an argument or a handler is missing or wrong",
    NOT_FOUND: "not found: a file, a store, a case, a work item, a pattern",
    REFUSED: "refused: the command does not fit the state, or somebody else was faster",
    STORE: "the store failed, or the service did not answer",
    DATA: "data or a handler failed",
    UNDECIDED: "neither yes nor no within the budget",
    BUG: "a bug in KNHK: please report it",
    STOPPED: "stopped by Ctrl-C",
}
"""What the exit codes mean."""

_CODES: Final[tuple[tuple[type[KnhkError], int], ...]] = (
    (SpecificationError, NO),
    (MissingExtra, USAGE),
    (UnknownSpecification, NOT_FOUND),
    (UnknownCase, NOT_FOUND),
    (UnknownWorkItem, NOT_FOUND),
    (CommandError, REFUSED),
    (StoreError, STORE),
    (OutboundError, STORE),
    (JournalError, STORE),
    (DataError, DATA),
    (HandlerError, DATA),
    (InternalError, BUG),
)
_PACKAGE: Final = Path(__file__).resolve().parent.parent


class Failure(click.ClickException):
    """The end of a command that could not do what was asked."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        # click reads it from the instance, whatever it declares.
        self.exit_code = code  # type: ignore[misc]


def exit_code(error: KnhkError) -> int:
    """Return the exit code that tells of an error."""
    if isinstance(error, ResponseRefused) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return REFUSED
    return next((code for kind, code in _CODES if isinstance(error, kind)), BUG)


def told(error: KnhkError) -> str:
    """Return an error's message with its notes, and where in a handler it came from."""
    return "\n".join([str(error), *_origin(error), *getattr(error, "__notes__", ())])


def _origin(error: KnhkError) -> list[str]:
    """Name the exception that a handler raised, and the line that raised it."""
    cause = error.__cause__
    if not isinstance(error, HandlerError) or cause is None:
        return []
    frames = traceback.extract_tb(cause.__traceback__)
    place = next((each for each in reversed(frames) if _PACKAGE not in Path(each.filename).parents), None)
    if place is None:
        return []
    return [f"  {type(cause).__name__} in {place.name}, {place.filename}:{place.lineno}"]


@contextmanager
def translated() -> Iterator[None]:
    """Turn what KNHK raises on purpose into a message and an exit code."""
    try:
        yield
    except KnhkError as error:
        raise Failure(told(error), exit_code(error)) from error
    except KeyboardInterrupt:
        raise Failure("stopped", STOPPED) from None


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn the failure to read a file into a message and an exit code."""
    try:
        yield
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror or error}", NOT_FOUND) from error
