"""Who works here: participants, and the port through which the engine asks for them.

The words are those of YAWL's resource service: a participant has roles, capabilities and positions; a position reports to
another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import attrs

from knhk.errors import DirectoryError


def _names(names: Iterable[str]) -> frozenset[str]:
    return frozenset(names)


@attrs.frozen(kw_only=True)
class Participant:
    """
    Somebody who does work.

    Args:
        id: what commands and lists name him by.
        name: what people read; the id where it is not given.
        roles: what he is, the roles above these included.
        capabilities: what he can do.
        positions: what he holds in the organisation.
        active: whether he works here now; others get no work and give no commands.
        administrator: whether he may act for others, and offer what is offered to nobody; four-eyes binds him too.
    """

    id: str
    name: str = attrs.field(default=attrs.Factory(lambda self: self.id, takes_self=True))
    roles: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    capabilities: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    positions: frozenset[str] = attrs.field(default=frozenset(), converter=_names)
    active: bool = True
    administrator: bool = False


class Directory(Protocol):
    """
    Where the engine asks for people: `knhk.Organisation`, or your own over what your house has (LDAP, an HR system).

    It is asked while a command runs, by any thread, and its answers are not kept: what it says now is what counts.
    It must be quick, and must know everybody in an order that does not change by itself.
    What it raises ends the command as a `knhk.DirectoryError`; nothing of the command has happened then.
    """

    def participant(self, participant_id: str) -> Participant | None:
        """Return a participant by his id, whether he is active or not; None: there is none."""

    def participants(self, role: str | None = None) -> Iterable[Participant]:
        """Return all active participants with a role, or all active ones, in ascending order of their ids."""

    def reports_to(self, position: str) -> str | None:
        """Return the position that a position reports to; None where there is none."""


def works_for(directory: Directory, participant: Participant, chief: Participant) -> bool:
    """Whether one of a participant's positions reports, over however many, to one of the chief's."""
    seen: set[str] = set()
    waiting = sorted(participant.positions)
    while waiting:
        above = directory.reports_to(waiting.pop())
        if above is None or above in seen:
            continue
        if above in chief.positions:
            return True
        seen.add(above)
        waiting.append(above)
    return False


class Guarded:
    """
    A directory whose failures are the engine's to tell.

    Args:
        directory: who is asked.
    """

    def __init__(self, directory: Directory) -> None:
        self.directory = directory

    def participant(self, participant_id: str) -> Participant | None:
        """Return a participant by his id; raises DirectoryError."""
        try:
            return self.directory.participant(participant_id)
        except Exception as error:
            raise _failed(error) from error

    def participants(self, role: str | None = None) -> tuple[Participant, ...]:
        """Return all active participants, or those with a role; raises DirectoryError."""
        try:
            return tuple(self.directory.participants(role))
        except Exception as error:
            raise _failed(error) from error

    def reports_to(self, position: str) -> str | None:
        """Return the position above a position; raises DirectoryError."""
        try:
            return self.directory.reports_to(position)
        except Exception as error:
            raise _failed(error) from error


def _failed(error: Exception) -> DirectoryError:
    return DirectoryError(f"the directory of people failed: {type(error).__name__}: {error}")
