"""What can go wrong, and whose fault it is.

Every exception KNHK raises on purpose is in this tree; any other exception that leaves the library is a bug in it::

    KnhkError
    ├── SpecificationError (ValueError)      the net is wrong; .problems lists every finding, not the first
    │   ├── ParseError                       the text is not a specification: line and element are named
    │   ├── ModelError                       a simulation model does not fit: .problems lists every finding
    │   └── VerificationError                the net is well-formed and yet cannot be run as asked
    ├── CommandError                         you asked for what cannot be done now; nothing happened
    │   ├── UnknownSpecification (LookupError)
    │   ├── UnknownCase (LookupError)
    │   ├── UnknownWorkItem (LookupError)
    │   ├── IllegalTransition                .status, .command, .allowed
    │   │   └── ClaimLost                    whoever claimed external work has it no more
    │   ├── Forbidden                        whoever asks may not do that; .participant, .command
    │   ├── LimitExceeded                    a stated limit stands in the way; .limit names it
    │   ├── MigrationRefused                 the case has no place in the other version; .problems lists every reason
    │   ├── SpecificationConflict            this id and version are registered with other content
    │   ├── IdempotencyConflict              this key was used with another request
    │   └── ConcurrentUpdate                 somebody else moved the case first; reload and retry
    │       └── OwnershipLost                another instance has taken the work over; leave it alone
    ├── DataError (ValueError)               a predicate, a mapping or the schema refuses this data; .expression, .element
    │   └── ConstraintViolation              a task's requires or ensures does not hold
    ├── HandlerError                         user code raised; __cause__ is it
    ├── DirectoryError                       the directory of people failed; nothing happened; __cause__ is why
    ├── StoreError                           the store failed; the case is unchanged
    │   ├── StoreFull                        no space left; nothing was written, reading goes on
    │   ├── StoreUnavailable                 locked, read-only or out of reach; try again later
    │   └── QuarantinedCase                  this case's record is damaged and set aside; the others go on
    ├── JournalError                         bytes not readable, or replay disagrees with history
    ├── OutboundError                        a request to the outside came to nothing; .retryable, .retry_after
    │   ├── OutboundRefused                  the URL must not be called; nothing was sent
    │   ├── OutboundFailed                   no answer came, or none within the bounds of time and size
    │   └── ResponseRefused                  the answer is not the one that was wanted; .status
    ├── InvalidSignature                     a webhook message was not made by whoever holds the secret, or too long ago
    ├── MissingExtra (ImportError)           an optional dependency is needed: says how to install it
    └── InternalError                        a bug in KNHK: please report
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen
class Problem:
    """
    One finding about a specification.

    Args:
        place: where it is, as a path that a modeller can follow (``tasks.check.retry.max``).
        message: what is wrong and what would be right.
    """

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class KnhkError(Exception):
    """The root of everything that KNHK raises on purpose."""


class SpecificationError(KnhkError, ValueError):
    """
    The specification is wrong.

    Args:
        subject: what has the problems, for the message.

    Attributes:
        problems: every finding with its place, in the order of the text.
    """

    def __init__(self, problems: Sequence[Problem], *, subject: str = "the specification") -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        count = len(self.problems)
        head = f"{subject} has a problem" if count == 1 else f"{subject} has {count} problems"
        super().__init__("\n  - ".join([head + ":", *map(str, self.problems)]))


class ParseError(SpecificationError):
    """The text cannot be read as a specification, or as the event log that it should be."""


class ModelError(SpecificationError):
    """A simulation model cannot be read, or does not fit its specification."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems, subject="the simulation model")


class VerificationError(SpecificationError):
    """The net is well-formed and yet cannot be run as asked."""


class CommandError(KnhkError):
    """You asked for what cannot be done now; nothing happened."""


class UnknownSpecification(CommandError, LookupError):
    """No specification of this id (and version) is registered."""


class UnknownCase(CommandError, LookupError):
    """No case of this id is in the store."""


class UnknownWorkItem(CommandError, LookupError):
    """No open work item, task or instance of this name is in the case."""


class IllegalTransition(CommandError):
    """
    The command does not fit the state.

    Attributes:
        status: what is so now.
        command: what was asked.
        allowed: the commands that would be allowed now.
    """

    def __init__(self, message: str, *, status: str, command: str, allowed: Sequence[str] = ()) -> None:
        self.status = status
        self.command = command
        self.allowed = tuple(allowed)
        super().__init__(message)


class Forbidden(CommandError):
    """
    Whoever asks may not do this, whatever the state; the message says who may.

    Attributes:
        participant: who asked, or who should have got the work; "" where nobody was named.
        command: what was asked.
    """

    def __init__(self, message: str, *, participant: str, command: str) -> None:
        self.participant = participant
        self.command = command
        super().__init__(message)


class ClaimLost(IllegalTransition):
    """
    Whoever claimed external work has it no more: its lease has ended, somebody else has it, or it is gone.

    Nothing happened, and nothing that was done under the claim counts any more: stop.
    """


class LimitExceeded(CommandError):
    """
    A stated, configurable limit stands in the way; nothing happened.

    Attributes:
        limit: the name of the limit, as it is spelt in `knhk.Limits`.
        maximum: its value now.
    """

    def __init__(self, message: str, *, limit: str, maximum: int) -> None:
        self.limit = limit
        self.maximum = maximum
        super().__init__(f"{message} (limit {limit}={maximum})")


class MigrationRefused(CommandError):
    """
    A case has no place in the other version of its specification; it stays as it is.

    Attributes:
        problems: every reason, with its place in the case.
    """

    def __init__(self, case_id: str, target: str, problems: Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        head = f"case {case_id} cannot move to version {target}:"
        super().__init__("\n  - ".join([head, *map(str, self.problems)]))


class SpecificationConflict(CommandError):
    """This id and version are registered with other content: give the new content a new version."""


class IdempotencyConflict(CommandError):
    """This idempotency key was used before with another request."""


class ConcurrentUpdate(CommandError):
    """Somebody else moved the case first; reload it and try again."""


class OwnershipLost(ConcurrentUpdate):
    """
    What this was done under is not so any more: another instance has taken the work over.

    Nothing happened; whoever has the work now goes on with it, so leave it alone.
    """


class DataError(KnhkError, ValueError):
    """
    A predicate, a mapping or the schema of the data refuses this data; the case is unchanged.

    Attributes:
        expression: the text of the expression.
        element: the element it belongs to (a flow ``A -> B``, a task), or the place in the data (``data.lines[2].n``) that
            the schema refuses; "" where it stands alone.
        value: what the expression met (the offending value), for the message.
    """

    def __init__(self, message: str, *, expression: str = "", element: str = "", value: object = None) -> None:
        self.expression = expression
        self.element = element
        self.value = value
        where = f"{element}: " if element else ""
        what = f" in `{expression}`" if expression else ""
        super().__init__(f"{where}{message}{what}")


class ConstraintViolation(DataError):
    """What a task requires or ensures does not hold of this data; the case is unchanged."""


class HandlerError(KnhkError):
    """
    A handler failed for good; ``__cause__`` is what it raised.

    A TimeoutError where its time was up; None where its process ended and its attempts are used up.
    """


class DirectoryError(KnhkError):
    """The directory of people failed; nothing of the command happened. ``__cause__`` is what it raised."""


class StoreError(KnhkError):
    """The store failed; the case is unchanged."""


class StoreFull(StoreError):
    """No space is left; nothing was written, reading goes on."""


class StoreUnavailable(StoreError):
    """The store is locked, read-only or out of reach; nothing was written. Try again later."""


class QuarantinedCase(StoreError):
    """This case's record is damaged and set aside; the other cases go on."""


class JournalError(KnhkError):
    """Bytes are not readable, or a replay disagrees with its history."""


class OutboundError(KnhkError):
    """
    A request to the outside came to nothing.

    Attributes:
        retryable: whether trying it again may help.
        retry_after: the wait in seconds that the other side asks for before the next attempt, or None.
    """

    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class OutboundRefused(OutboundError):
    """The URL must not be called, by the engine's policy for requests to the outside; nothing was sent."""

    retryable = False


class OutboundFailed(OutboundError):
    """No answer came, or none within the bounds of time and size."""


class ResponseRefused(OutboundError):
    """
    The answer is not the one that was wanted.

    Attributes:
        status: the number that the answer has.
    """

    def __init__(self, message: str, *, status: int, retry_after: float | None = None, retryable: bool = True) -> None:
        self.status = status
        self.retryable = retryable
        super().__init__(message, retry_after=retry_after)


class InvalidSignature(KnhkError):
    """A webhook message was not made by whoever holds the secret, or too long ago: do not act on it."""


class MissingExtra(KnhkError, ImportError):
    """
    An optional dependency is needed.

    Args:
        extra: the name of the extra that brings it.
        feature: what needs it.
    """

    def __init__(self, extra: str, feature: str) -> None:
        self.extra = extra
        super().__init__(f"{feature} needs an optional dependency: pip install 'knhk[{extra}]'")


class InternalError(KnhkError):
    """A bug in KNHK: please report it with the message."""
