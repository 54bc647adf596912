"""The organisation model: participants, roles, capabilities and positions, from a YAML or JSON file.

Reading is strict, as for specifications: everything that is wrong is listed, each with its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import attrs

from knhk.errors import SpecificationError
from knhk.people import Participant
from knhk.spec.files import read_file
from knhk.spec.places import inside, shown
from knhk.spec.values import BAD, MAX_ELEMENTS, Member, Members, Reading, described, name, names, text, truth

_NAME = name()
_NAMES = names(_NAME)


@attrs.frozen(kw_only=True)
class Role:
    """What participants are; whoever has it has the role that it `belongs_to`, too."""

    id: str
    name: str = ""
    belongs_to: str | None = None


@attrs.frozen(kw_only=True)
class Capability:
    """What participants can do."""

    id: str
    name: str = ""


@attrs.frozen(kw_only=True)
class Position:
    """What participants hold, and the position that it reports to."""

    id: str
    name: str = ""
    reports_to: str | None = None


class Organisation:
    """
    An organisation model, as a directory of its participants.

    Args:
        participants, roles, capabilities, positions: who and what there is.

    Raises:
        SpecificationError: they do not fit together; `problems` lists everything, each with its place.

    Attributes:
        roles, capabilities, positions: by id.
    """

    def __init__(
        self,
        participants: Iterable[Participant],
        *,
        roles: Iterable[Role] = (),
        capabilities: Iterable[Capability] = (),
        positions: Iterable[Position] = (),
    ) -> None:
        reading = Reading()
        self.roles = _by_id(reading, "roles", roles)
        self.capabilities = _by_id(reading, "capabilities", capabilities)
        self.positions = _by_id(reading, "positions", positions)
        known = _by_id(reading, "participants", participants)
        self._check(reading, known)
        if reading.report.count:
            raise SpecificationError(reading.report.problems(), subject="the organisation")
        everybody = [attrs.evolve(each, roles=self._with_roles_above(each.roles)) for each in known.values()]
        self._participants = {each.id: each for each in sorted(everybody, key=lambda each: each.id)}
        self._active = tuple(each for each in self._participants.values() if each.active)
        self._with_role = {
            role: tuple(each for each in self._active if role in each.roles)
            for role in frozenset[str]().union(*(each.roles for each in self._active))
        }

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """
        Read an organisation from a file, ``.yaml``, ``.yml`` or ``.json``.

        Raises:
            SpecificationError: it is not one; `problems` lists everything that is wrong, each with its place.
            MissingExtra: it is YAML, and the library for that is not installed.
        """
        return cls.from_dict(read_file(path))

    @classmethod
    def from_dict(cls, tree: object) -> Self:
        """Read an organisation from a tree of JSON values; raises SpecificationError."""
        reading = Reading()
        read = reading.members(tree, "", _ORGANISATION)
        if reading.report.count:
            raise SpecificationError(reading.report.problems(), subject="the organisation")
        return cls(**{"participants": (), **read})

    def participant(self, participant_id: str) -> Participant | None:
        """Return a participant by his id; None: there is none."""
        return self._participants.get(participant_id)

    def participants(self, role: str | None = None) -> tuple[Participant, ...]:
        """Return all active participants with a role, or all active ones, in ascending order of their ids."""
        return self._active if role is None else self._with_role.get(role, ())

    def reports_to(self, position: str) -> str | None:
        """Return the position that a position reports to; None where there is none."""
        found = self.positions.get(position)
        return None if found is None else found.reports_to

    def _with_roles_above(self, roles: Iterable[str]) -> frozenset[str]:
        found: set[str] = set()
        waiting = list(roles)
        while waiting:
            role = waiting.pop()
            if role in found:
                continue
            found.add(role)
            above = self.roles[role].belongs_to
            if above is not None:
                waiting.append(above)
        return frozenset(found)

    def _check(self, reading: Reading, participants: Mapping[str, Participant]) -> None:
        """What names something that is not there, and what is above itself."""
        for kind, known, above in (
            ("roles", self.roles, {each.id: each.belongs_to for each in self.roles.values()}),
            ("positions", self.positions, {each.id: each.reports_to for each in self.positions.values()}),
        ):
            member = "belongs_to" if kind == "roles" else "reports_to"
            for each, upper in above.items():
                place = inside(inside(kind, each), member)
                if upper is not None and upper not in known:
                    reading.refuse(place, _unknown(reading, kind, upper, known))
                elif _is_above_itself(each, above):
                    reading.refuse(place, f"{shown(each)} is above itself")
        for participant in participants.values():
            for kind, mine, known in (
                ("roles", participant.roles, self.roles),
                ("capabilities", participant.capabilities, self.capabilities),
                ("positions", participant.positions, self.positions),
            ):
                for each in sorted(mine):
                    if each not in known:
                        place = inside(inside("participants", participant.id), kind)
                        reading.refuse(place, _unknown(reading, kind, each, known))


def _unknown(reading: Reading, kind: str, identity: str, known: Mapping[str, object]) -> str:
    hint = reading.report.did_you_mean(identity, known.keys())
    return f"there is no {kind[:-1].replace('capabilitie', 'capability')} {shown(identity)}{hint}"


def _is_above_itself(identity: str, above: Mapping[str, str | None]) -> bool:
    seen: set[str] = set()
    upper = above.get(identity)
    while upper is not None and upper not in seen:
        if upper == identity:
            return True
        seen.add(upper)
        upper = above.get(upper)
    return False


def _by_id(reading: Reading, kind: str, elements: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in elements:
        if each.id in found:
            reading.refuse(inside(kind, each.id), f"the id {shown(each.id)} is used twice")
        found[each.id] = each
    return found


def _listed(kind: type, table: Members) -> Member:
    """A member with elements that have ids: a list of them or of bare ids, or a map by id."""

    def read(reading: Reading, value: object, place: str) -> Any:
        if isinstance(value, Mapping):
            trees = list(value.items())
        elif isinstance(value, list | tuple):
            trees = [(None, {"id": tree} if isinstance(tree, str) else tree) for tree in value]
        else:
            return reading.refuse(place, f"must be a list, or a map by id, not {described(value)}")
        if len(trees) > MAX_ELEMENTS:
            return reading.refuse(place, f"{len(trees):,} entries; at most {MAX_ELEMENTS:,} are allowed")
        read = [_one(reading, kind, table, place, number, *each) for number, each in enumerate(trees)]
        return BAD if any(each is BAD for each in read) else tuple(read)

    return Member(_PLURALS[kind], read)


def _one(reading: Reading, kind: type, table: Members, place: str, number: int, key: object, tree: object) -> Any:
    here = f"{place}[{number}]"
    if key is not None and not isinstance(key, str):
        return reading.refuse(here, f"the id must be text, not {described(key)}; put it in quotes")
    if key is not None and tree is None:
        tree = {}
    if not isinstance(tree, Mapping):
        return reading.refuse(here, f"must be a map of members, not {described(tree)}")
    if key is not None and tree.get("id", key) != key:
        return reading.refuse(inside(here, "id"), f"is {described(tree['id'])}, but the map says {described(key)}")
    whole = {"id": key, **tree} if key is not None else tree
    identity = whole.get("id")
    before = reading.report.count
    named = inside(place, identity) if isinstance(identity, str) else here
    values = reading.members(whole, named, table, required=("id",))
    return BAD if reading.report.count > before else kind(**values)


def _members(**reads: Any) -> dict[str, Member]:
    return {each: Member(each, read) for each, read in reads.items()}


_PLURALS: Mapping[type, str] = {
    Participant: "participants",
    Role: "roles",
    Capability: "capabilities",
    Position: "positions",
}
_ORGANISATION: Members = {
    each.attribute: each
    for each in (
        _listed(Role, _members(id=_NAME, name=text(), belongs_to=_NAME)),
        _listed(Capability, _members(id=_NAME, name=text())),
        _listed(Position, _members(id=_NAME, name=text(), reports_to=_NAME)),
        _listed(
            Participant,
            _members(
                id=_NAME,
                name=text(),
                roles=_NAMES,
                capabilities=_NAMES,
                positions=_NAMES,
                active=truth,
                administrator=truth,
            ),
        ),
    )
}
