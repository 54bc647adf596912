"""Work meets people: who may take up an item, and to whom the engine gives it.

`People` has the directory, which a case has not: it is asked when an item comes up and when somebody gives a command, and
what follows from its answer is recorded in the case.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from knhk._codes import Phase
from knhk._lower import ANYONE, Kind
from knhk._people_rules import audience_of, demands, kept_from
from knhk.case import Case
from knhk.people import Directory, Guarded, Participant
from knhk.ports import Document, Store
from knhk.spec import Manual, Privilege
from knhk.work.policies import POLICIES, Choice
from knhk.workitem import ItemEntry, ItemState

PILES: Final = "piles"
"""The collection of documents that say who takes all work of a task, by specification and task."""


class People:
    """
    The people around the cases of an engine.

    Args:
        directory: who there is.
        store: where turns, queues and piles are.
    """

    def __init__(self, directory: Directory, store: Store) -> None:
        self.directory = Guarded(directory)
        self._store = store

    # --- who may ------------------------------------------------------------------------------------------------------

    def hindrance(self, case: Case, item: ItemEntry, participant: Participant) -> str:
        """Say why a participant may not do an item, naming who may; "" where he may."""
        audience = audience_of(case.state, item)
        if not any(fits(each, participant) for each in audience):
            return f"it is for {told(audience)}"
        capabilities, positions = demands(case.state, item)
        missing = [each for each in capabilities if each not in participant.capabilities]
        if missing:
            return f"it needs the capability {' and '.join(missing)}"
        if positions and not participant.positions.intersection(positions):
            return f"it is for {told([f'position:{each}' for each in positions])}"
        done = kept_from(case.state, item).get(participant.id)
        return "" if done is None else f"{participant.id!r} did {done} in this case, and it is for somebody who did not"

    def candidates(self, case: Case, item: ItemEntry) -> Iterator[Participant]:
        """Give all who may do an item, each once, in no order."""
        seen: set[str] = set()
        for each in audience_of(case.state, item):
            for participant in self._audience(each):
                if participant.id not in seen:
                    seen.add(participant.id)
                    if participant.active and not self.hindrance(case, item, participant):
                        yield participant

    def anybody(self, audience: Sequence[str]) -> bool:
        """Whether there is somebody active among those whom these words stand for."""
        return any(each.active for word in audience for each in self._audience(word))

    def _audience(self, audience: str) -> Iterable[Participant]:
        kind, _, name = audience.partition(":")
        if kind == "participant":
            found = self.directory.participant(name)
            return () if found is None else (found,)
        # Whoever asks sees to it that those of a position or with a capability are meant.
        return self.directory.participants(name if kind == "role" else None)

    # --- sharing out --------------------------------------------------------------------------------------------------

    def share_out(self, case: Case, *, case_id: str, spec_id: str, after: int, at: int) -> int:
        """
        Give away, or offer to nobody, what came up in a case and is to be recorded in the commit that made it.

        Args:
            case: whose items.
            case_id, spec_id: its names.
            after: the last item that was looked at.
            at: now.

        Returns:
            The last item that was looked at.
        """
        seen = after
        while case.state.phase in (Phase.RUNNING, Phase.FAILED):
            fresh = []
            for number in reversed(case.state.items):
                if number <= seen:
                    break
                fresh.append(number)
            if not fresh:
                return case.state.next_item - 1
            seen = fresh[0]
            for number in reversed(fresh):
                item = case.state.items.get(number)
                if item is not None and item.state is ItemState.OFFERED and case.plan(item).kind is Kind.MANUAL:
                    self._share(case, item, case_id=case_id, spec_id=spec_id, at=at)
        return seen

    def _share(self, case: Case, item: ItemEntry, *, case_id: str, spec_id: str, at: int) -> None:
        manual = case.plan(item).task.manual
        if manual is None:
            return
        task = f"{spec_id}/{case.plan(item).task.id}"
        eager = self._eager(case, item, manual, task)
        if eager is not None:
            case.allocate_item(item.number, eager.id, at=at, start=True)
            return
        familiar = self._familiar(case, item, manual)
        if manual.allocate is not None:
            able = [familiar] if familiar is not None else sorted(each.id for each in self.candidates(case, item))
            if able:
                choice = Choice(
                    store=self._store,
                    candidates=able,
                    task=task,
                    case_id=case_id,
                    number=item.number,
                    here=Counter(each.by for each in case.state.items.values() if each.by),
                    seed=manual.allocate.seed,
                )
                case.allocate_item(item.number, POLICIES[manual.allocate.policy](choice), at=at)
                return
        elif familiar is not None:
            case.route_item(item.number, (f"participant:{familiar}",), at=at)
            return
        if next(self.candidates(case, item), None) is None:
            case.route_item(item.number, None, at=at)

    def _eager(self, case: Case, item: ItemEntry, manual: Manual, task: str) -> Participant | None:
        """Return who gets an item at once, started, because he asked for it (pile, chain) or its task does (chained)."""
        names = []
        if Privilege.PILE in manual.privileges:
            pile = self._store.document(PILES, task)
            names += [] if pile is None else [str(json.loads(pile.value)["participant"])]
        if manual.chained:
            names.append(case.state.people.last_by)
        if Privilege.CHAIN in manual.privileges:
            names += case.state.people.chains
        return next((found for each in names if (found := self._able(case, item, each)) is not None), None)

    def _familiar(self, case: Case, item: ItemEntry, manual: Manual) -> str | None:
        """Return who did the task that whoever does this one is to be familiar with, where he may do this one."""
        did = case.state.people.did.get(manual.familiar_to or "", {})
        last = next(reversed(did), None)
        found = None if last is None else self._able(case, item, last)
        return None if found is None else found.id

    def _able(self, case: Case, item: ItemEntry, name: str) -> Participant | None:
        found = self.directory.participant(name) if name else None
        return found if found is not None and found.active and not self.hindrance(case, item, found) else None

    # --- piles --------------------------------------------------------------------------------------------------------

    def pile(self, task: str, participant: str, *, piled: bool = True) -> None:
        """
        Let a participant have all work of a task from now on, started, or no longer.

        Args:
            task: ``specification/task``.
            participant: who; whoever had it before has it no more.
            piled: whether he has it from now on, or ceases to; what is so already is left as it is.

        Raises:
            ConcurrentUpdate: somebody else asked for it at the same moment.
        """
        found = self._store.document(PILES, task)
        mine = found is not None and json.loads(found.value)["participant"] == participant
        if piled and not mine:
            version = 1 if found is None else found.version + 1
            value = json.dumps({"participant": participant})
            self._store.write([Document(collection=PILES, key=task, value=value, version=version)])
        elif not piled and mine and found is not None:
            self._store.write((), [found])


def fits(audience: str, participant: Participant) -> bool:
    """Whether a participant is among those that a word of an audience stands for."""
    kind, _, name = audience.partition(":")
    mine = {
        "role": participant.roles,
        "participant": (participant.id,),
        "position": participant.positions,
        "capability": participant.capabilities,
    }
    return audience == ANYONE or name in mine[kind]


def audiences(participant: Participant) -> tuple[str, ...]:
    """Return all words of audiences that a participant is among."""
    return (
        f"participant:{participant.id}",
        *(f"role:{each}" for each in sorted(participant.roles)),
        *(f"position:{each}" for each in sorted(participant.positions)),
        *(f"capability:{each}" for each in sorted(participant.capabilities)),
        ANYONE,
    )


def told(audience: Sequence[str]) -> str:
    """Return an audience as people read it: ``role clerk or participant ann``."""
    return " or ".join(each.replace(":", " ", 1) for each in audience) or "nobody"
