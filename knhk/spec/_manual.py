"""The members of manual work, read; what is wrong with them beyond their form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from knhk.spec.places import shown
from knhk.spec.resourcing import (
    Allocation,
    Escalation,
    Initiator,
    Manual,
    Policy,
    Privilege,
    Recipients,
    Unless,
)
from knhk.spec.values import (
    BAD,
    MAX_INTEGER,
    Member,
    Members,
    Read,
    Reading,
    choice,
    described,
    duration,
    name,
    names,
    text,
    truth,
    whole,
)

MAX_STEPS = 100
"""How many steps an escalation may have."""

_NAME = name()
_NAMES = names(_NAME)


def make(kind: type, reading: Reading, value: object, place: str, table: Members, *required: str) -> Any:
    """An object of the model from its members; `BAD` where any of them was refused."""
    before = reading.report.count
    values = reading.members(value, place, table, required=required)
    return BAD if values is BAD or reading.report.count > before else kind(**values)


def manual(reading: Reading, value: object, place: str) -> Any:
    """Read manual work: true, or a map of its members."""
    return Manual() if value is True else make(Manual, reading, value, place, _MANUAL)


def problems(work: Manual, manual_tasks: Mapping[str, bool]) -> Iterator[tuple[str, str]]:
    """
    What is wrong with manual work beyond its form, by member.

    Args:
        work: of a task.
        manual_tasks: of all nets of the specification, by id, whether any task of that id is manual.
    """
    for member, references in (("separate_from", work.separate_from), ("familiar_to", (work.familiar_to,))):
        for each in references:
            if each is not None and each not in manual_tasks:
                yield member, f"there is no task {shown(each)} in this specification"
            elif each is not None and not manual_tasks[each]:
                yield member, f"{shown(each)} is no manual task, so nobody is known to have done it"
    if work.familiar_to is not None and work.familiar_to in work.separate_from:
        yield "familiar_to", f"whoever did {shown(work.familiar_to)} is kept from this task by separate_from"
    if work.allocate is not None and work.offer is Initiator.PARTICIPANT:
        yield "allocate", "the engine cannot choose among those whom a person has yet to name: offer is participant"
    if work.allocate is not None and work.allocate.seed and work.allocate.policy is not Policy.RANDOM:
        yield "allocate.seed", f"is for the random policy, not for {shown(work.allocate.policy.value)}"
    earlier = 0
    for number, step in enumerate(work.escalate):
        place = f"escalate[{number}]"
        if step.after <= earlier:
            yield f"{place}.after", "must be longer than nothing, and later than the step before"
        earlier = max(earlier, step.after)
        if step.to is None and step.priority is None and step.notify is None:
            yield place, "does nothing: give it to, priority or notify"
        if step.to is not None and not step.to.roles and not step.to.participants:
            yield f"{place}.to", "names nobody: give it roles or participants"


def _list(read: Read, most: int) -> Read:
    def read_all(reading: Reading, value: object, place: str) -> Any:
        if not isinstance(value, list | tuple):
            return reading.refuse(place, f"must be a list, not {described(value)}")
        if len(value) > most:
            return reading.refuse(place, f"{len(value):,} entries; at most {most} are allowed")
        items = [read(reading, each, f"{place}[{number}]") for number, each in enumerate(value)]
        return BAD if any(each is BAD for each in items) else tuple(items)

    return read_all


def _privileges(reading: Reading, value: object, place: str) -> Any:
    read = _list(choice(Privilege), len(Privilege))(reading, value, place)
    if read is BAD or len(set(read)) == len(read):
        return read
    return reading.refuse(place, "has a privilege twice")


def _allocate(reading: Reading, value: object, place: str) -> Any:
    if value == Initiator.PARTICIPANT.value:
        return None
    tree = {"policy": value} if isinstance(value, str) else value
    return make(Allocation, reading, tree, place, _ALLOCATION, "policy")


def _to(reading: Reading, value: object, place: str) -> Any:
    return make(Recipients, reading, value, place, _RECIPIENTS)


def _step(reading: Reading, value: object, place: str) -> Any:
    return make(Escalation, reading, value, place, _ESCALATION, "after")


def _members(**reads: Read) -> dict[str, Member]:
    return {each: Member(each, read) for each, read in reads.items()}


_ALLOCATION: Members = _members(policy=choice(Policy), seed=whole(0))
_RECIPIENTS: Members = _members(roles=_NAMES, participants=_NAMES)
_ESCALATION: Members = _members(
    after=duration, unless=choice(Unless), to=_to, priority=whole(-MAX_INTEGER), notify=text(longest=500)
)
_MANUAL: Members = _members(
    roles=_NAMES,
    participants=_NAMES,
    participants_from=text(),
    capabilities=_NAMES,
    positions=_NAMES,
    offer=choice(Initiator),
    allocate=_allocate,
    start=choice(Initiator),
    separate_from=_NAMES,
    familiar_to=_NAME,
    chained=truth,
    privileges=_privileges,
    escalate=_list(_step, MAX_STEPS),
)
