"""Work for people, as the modeller wrote it: who may do it, who decides, and what follows when nobody does.

The three interaction points (offer, allocate, start) and the words of the rest are those of YAWL's resource perspective:
Russell, van der Aalst, ter Hofstede, Edmond, "Workflow resource patterns: identification, representation and tool
support", 2005; Russell & ter Hofstede, "newYAWL: towards workflow 2.0", 2009.
"""

from __future__ import annotations

import enum

import attrs


class Initiator(enum.Enum):
    """Who decides at an interaction point: the engine, as soon as it can, or a person, when he likes."""

    SYSTEM = "system"
    PARTICIPANT = "participant"


class Policy(enum.Enum):
    """How the engine chooses one of those who may do the work."""

    ROUND_ROBIN = "round_robin"
    SHORTEST_QUEUE = "shortest_queue"
    RANDOM = "random"


class Privilege(enum.Enum):
    """What a participant may do with work of his beyond starting and completing it."""

    SUSPEND = "suspend"
    DEALLOCATE = "deallocate"
    DELEGATE = "delegate"
    REALLOCATE = "reallocate"
    SKIP = "skip"
    PILE = "pile"
    CHAIN = "chain"


class Unless(enum.Enum):
    """What a work item must have come to for a step of its escalation to be passed over."""

    STARTED = "started"
    COMPLETED = "completed"


@attrs.frozen(kw_only=True)
class Allocation:
    """
    The engine chooses who does the work.

    Args:
        policy: how.
        seed: of the random policy: the same seed, case and item give the same choice.
    """

    policy: Policy
    seed: int = 0


@attrs.frozen(kw_only=True)
class Recipients:
    """Whom work is offered to that nobody did in time."""

    roles: tuple[str, ...] = ()
    participants: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Escalation:
    """
    A step that is taken when a work item gets old.

    Args:
        after: milliseconds since the item came up.
        unless: until when it is taken at all: until somebody starts the item, or until it is completed.
        to: whom the item is offered to from now on, whoever had it.
        priority: what its priority becomes.
        notify: what the event says that the history gets; for those who listen to it.
    """

    after: int
    unless: Unless = Unless.COMPLETED
    to: Recipients | None = None
    priority: int | None = None
    notify: str | None = None


@attrs.frozen(kw_only=True)
class Manual:
    """
    Work for people: the task is offered and waits to be started and completed.

    Args:
        roles, participants: whom it is for: whoever has one of the roles, or is one of the participants; both empty: everybody.
        participants_from: an expression over ``data`` for further participants: a name, or a list of names.
        capabilities: what one has to be able to do, all of it.
        positions: of which one has to hold one, if there are any.
        offer: who decides whom the work is offered to; a person finds it among the unoffered items.
        allocate: how the engine chooses one of them. None: one of them takes it.
        start: who decides when allocated work is started.
        separate_from: tasks of the case that whoever does this one must not have done (four-eyes); the reverse holds too.
        familiar_to: the task whose last doer is to do this one, where he may.
        chained: whether whoever did the manual work before it in the case gets it at once, where he may do it.
        privileges: what its participants may do with it.
        escalate: what follows when it gets old, in the order of time.
    """

    roles: tuple[str, ...] = ()
    participants: tuple[str, ...] = ()
    participants_from: str | None = None
    capabilities: tuple[str, ...] = ()
    positions: tuple[str, ...] = ()
    offer: Initiator = Initiator.SYSTEM
    allocate: Allocation | None = None
    start: Initiator = Initiator.PARTICIPANT
    separate_from: tuple[str, ...] = ()
    familiar_to: str | None = None
    chained: bool = False
    privileges: tuple[Privilege, ...] = ()
    escalate: tuple[Escalation, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it says nothing but whom the work is for: its instances are then started together, by one person."""
        return self == Manual(roles=self.roles)
