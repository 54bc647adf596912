"""The organisation model: read strictly, and asked as a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from knhk import Organisation, Participant, SpecificationError
from knhk.people import works_for
from knhk.work.organisation import Capability, Position, Role

BANK: dict[str, Any] = {
    "roles": {"clerk": None, "senior": {"belongs_to": "clerk"}, "chief": {"name": "Chief", "belongs_to": "senior"}},
    "capabilities": ["forklift", {"id": "dutch", "name": "Speaks Dutch"}],
    "positions": [
        {"id": "teller", "reports_to": "head"},
        {"id": "head", "reports_to": "director"},
        {"id": "director"},
    ],
    "participants": {
        "cleo": {"name": "Cleo C.", "roles": ["chief"], "positions": ["director"], "administrator": True},
        "ann": {"roles": ["senior"], "capabilities": ["dutch"], "positions": ["teller"]},
        "ben": {"roles": ["clerk"], "active": False},
        "dan": {"positions": ["head"]},
    },
}


def ids(participants: object) -> list[str]:
    """The ids of participants, in order."""
    assert isinstance(participants, tuple)
    return [each.id for each in participants]


def test_participants_have_the_roles_above_theirs() -> None:
    """Whoever has a role has the roles that it belongs to, over however many."""
    bank = Organisation.from_dict(BANK)
    cleo = bank.participant("cleo")

    assert cleo is not None
    assert cleo.roles == {"clerk", "senior", "chief"}
    assert ids(bank.participants("clerk")) == ["ann", "cleo"]


def test_only_the_active_are_listed() -> None:
    """A participant who is not active is known by his id, and in no list; the lists are in the order of ids."""
    bank = Organisation.from_dict(BANK)
    ben = bank.participant("ben")

    assert ben is not None
    assert not ben.active
    assert ids(bank.participants()) == ["ann", "cleo", "dan"]
    assert bank.participants("nobody") == ()
    assert bank.participant("nobody") is None


def test_who_works_for_whom() -> None:
    """A participant works for the holder of any position above his, and for nobody else."""
    bank = Organisation.from_dict(BANK)
    ann, cleo, dan = (bank.participant(each) for each in ("ann", "cleo", "dan"))
    assert ann is not None
    assert cleo is not None
    assert dan is not None

    assert [works_for(bank, ann, dan), works_for(bank, ann, cleo), works_for(bank, dan, cleo)] == [True] * 3
    assert [works_for(bank, cleo, ann), works_for(bank, ann, ann), works_for(bank, dan, ann)] == [False] * 3


def test_names_default_to_ids() -> None:
    """People read a participant's name, which is his id where no other is given."""
    bank = Organisation.from_dict(BANK)

    assert [each.name for each in bank.participants()] == ["ann", "Cleo C.", "dan"]


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_files_are_read_by_their_suffix(tmp_path: Path, suffix: str) -> None:
    """An organisation is a JSON or a YAML file."""
    if suffix == ".yaml":
        pytest.importorskip("yaml")
    path = tmp_path / f"bank{suffix}"
    path.write_text('{"roles": ["clerk"], "participants": {"ann": {"roles": ["clerk"]}}}', encoding="utf-8")

    assert ids(Organisation.load(path).participants("clerk")) == ["ann"]


PROBLEMS: list[tuple[object, list[str]]] = [
    ([], ["must be a map of members, not a list"]),
    (
        {"participant": {}},
        ['participant: unknown member; did you mean "participants"?'],
    ),
    ({"participants": 3}, ["participants: must be a list, or a map by id, not the number 3"]),
    ({"participants": [3]}, ["participants[0]: must be a map of members, not the number 3"]),
    ({"participants": [{}]}, ['participants[0]: the member "id" is missing']),
    ({"participants": {3: {}}}, ["participants[0]: the id must be text, not the number 3; put it in quotes"]),
    ({"participants": {"a": {"id": "b"}}}, ['participants[0].id: is the text "b", but the map says the text "a"']),
    ({"participants": {"a": {"role": ["x"]}}}, ['participants.a.role: unknown member; did you mean "roles"?']),
    ({"participants": {"a": {"active": "yes"}}}, ['participants.a.active: must be true or false, not the text "yes"']),
    ({"participants": ["a", "a"]}, ['participants.a: the id "a" is used twice']),
    (
        {"roles": ["clerk"], "participants": {"a": {"roles": ["clrek"], "capabilities": ["x"], "positions": ["y"]}}},
        [
            'participants.a.roles: there is no role "clrek"; did you mean "clerk"?',
            'participants.a.capabilities: there is no capability "x"',
            'participants.a.positions: there is no position "y"',
        ],
    ),
    ({"roles": {"a": {"belongs_to": "b"}}}, ['roles.a.belongs_to: there is no role "b"']),
    (
        {"positions": {"a": {"reports_to": "b"}, "b": {"reports_to": "a"}, "c": {"reports_to": "a"}}},
        ['positions.a.reports_to: "a" is above itself', 'positions.b.reports_to: "b" is above itself'],
    ),
]


@pytest.mark.parametrize(("tree", "expected"), PROBLEMS)
def test_every_problem_is_listed_with_its_place(tree: object, expected: list[str]) -> None:
    """What is wrong with an organisation is listed, all of it, with its place."""
    with pytest.raises(SpecificationError) as caught:
        Organisation.from_dict(tree)

    assert list(map(str, caught.value.problems)) == expected
    assert str(caught.value).startswith("the organisation has ")


def test_an_organisation_can_be_made_in_python() -> None:
    """What a file says can be said with the classes, and is checked in the same way."""
    shop = Organisation(
        [Participant(id="ann", roles=["clerk"], capabilities=["dutch"], positions=["till"])],
        roles=[Role(id="clerk")],
        capabilities=[Capability(id="dutch")],
        positions=[Position(id="till")],
    )

    assert ids(shop.participants("clerk")) == ["ann"]
    assert shop.reports_to("till") is None
    assert shop.reports_to("nowhere") is None
    with pytest.raises(SpecificationError, match='there is no role "boss"'):
        Organisation([Participant(id="ann", roles=["boss"])])


def test_there_are_limits() -> None:
    """An organisation of more entries than any has is refused."""
    with pytest.raises(SpecificationError, match="at most 100,000 are allowed"):
        Organisation.from_dict({"roles": ["r"] * 100_001})
