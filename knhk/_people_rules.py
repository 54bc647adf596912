"""What is decided for work of people inside a case, from its state alone: whom it is offered to, who is kept from it.

Who has which role is known to a directory, which is outside; what the directory's answers lead to is recorded
(`knhk._people_life`), so that a replay asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from knhk._case_state import CaseState
from knhk._codes import Code, Record
from knhk._lower import audience
from knhk._net_instance import NetInstance
from knhk.errors import DataError, Forbidden
from knhk.spec import Escalation, Initiator, Manual, Unless
from knhk.workitem import ItemEntry, ItemState


def audience_of(state: CaseState, item: ItemEntry) -> tuple[str, ...]:
    """Return whom an item of people's is for: as was said of the item itself, or as its task says."""
    post = state.people.posts.get(item.number)
    if post is not None and post.audience is not None:
        return post.audience
    return state.nets[item.net].plan.plans[item.task].audience


def demands(state: CaseState, item: ItemEntry) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the capabilities that whoever does the item must have, and the positions of which he must hold one."""
    manual = state.nets[item.net].plan.plans[item.task].people
    post = state.people.posts.get(item.number)
    if manual is None or (post is not None and not post.filtered):
        return (), ()
    return manual.capabilities, manual.positions


def details_of(state: CaseState, item: ItemEntry) -> dict[str, Any]:
    """Return what else the worklist shows of an item of people's, and looks at; nothing where there is nothing."""
    post = state.people.posts.get(item.number)
    details: dict[str, Any] = {}
    if item.state is ItemState.OFFERED:
        capabilities, positions = demands(state, item)
        details = {
            "capabilities": list(capabilities),
            "positions": list(positions),
            "kept_from": sorted(kept_from(state, item)),
        }
    if post is not None:
        details |= {"priority": post.priority, "escalated": post.step}
    return {name: value for name, value in details.items() if value}


def first_offer(state: CaseState, net: NetInstance, task: int, number: int, at: int) -> Iterator[Record]:
    """Give the records for an item that has just come up: whom it is offered to, and when its escalation begins."""
    plan = net.plan.plans[task]
    manual = plan.people
    if manual is None:
        return
    if manual.offer is Initiator.PARTICIPANT:
        yield Code.ROUTED, number, ItemState.UNOFFERED.value, None, True
    elif plan.participants is not None:
        named = _names(
            plan.participants.evaluate({"data": state.data}, net.path(task)), net.path(task), plan.participants.text
        )
        yield Code.ROUTED, number, ItemState.OFFERED.value, list(audience(manual, named)), True
    if manual.escalate:
        yield Code.ESCALATION_SET, number, 0, at + manual.escalate[0].after


def _names(value: Any, path: str, expression: str) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(each, str) and each for each in names):
        message = f"must give the name of a participant or a list of names, not {value!r}"
        raise DataError(message, expression=expression, element=path, value=value)
    return tuple(names)


def kept_from(state: CaseState, item: ItemEntry) -> Mapping[str, str]:
    """Return who must not do an item because of what he did in this case (four-eyes), each with the task that he did."""
    separate = state.nets[item.net].plan.plans[item.task].separate
    return state.people.others(separate, item.number) if separate else {}


def check_separate(state: CaseState, item: ItemEntry, who: str, command: str) -> None:
    """
    Refuse to let somebody do an item that he is kept from.

    Raises:
        Forbidden: he did a task that this one is separate from, or nobody was named and so nobody can be judged.
    """
    net = state.nets[item.net]
    separate = net.plan.plans[item.task].separate
    if not separate:
        return
    path = net.path(item.task, item.instance)
    tasks = ", ".join(sorted(separate))
    if not who:
        message = f"cannot {command} {path}: say who does it (by), because it is separate from {tasks}"
        raise Forbidden(message, participant="", command=command)
    done = kept_from(state, item).get(who)
    if done is not None:
        message = (
            f"{who!r} cannot {command} {path}: {who!r} did {done} in this case, and it is for somebody who did not"
        )
        raise Forbidden(message, participant=who, command=command)


def escalated(manual: Manual, item: ItemEntry, step: int, due: int) -> Record:
    """Return the record of a step of an item's escalation: what it does, or that it is passed over."""
    taken: Escalation = manual.escalate[step]
    further = None
    if step + 1 < len(manual.escalate):
        further = due - taken.after + manual.escalate[step + 1].after
    if taken.unless is Unless.STARTED and item.state in (ItemState.STARTED, ItemState.SUSPENDED):
        return Code.ESCALATION_SET, item.number, step + 1, further
    to = None
    if taken.to is not None:
        to = list(audience(Manual(roles=taken.to.roles, participants=taken.to.participants)))
    return Code.ESCALATED, item.number, step, to, taken.priority, further
