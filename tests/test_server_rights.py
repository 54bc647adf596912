"""Rights: the whole matrix of roles and operations, from the table; refused before anything else is looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from knhk.server.identity import Caller
from knhk.server.operations import OPERATIONS, Operation
from knhk.server.rights import RIGHTS, ROLES, may
from tests.served import Served, problem, served

NOBODY = "there-is-no-such-thing"


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    """A service with a workflow and a case."""
    with served() as made:
        made.register()
        made.case()
        yield made


def address(operation: Operation) -> str:
    """Where an operation is, about things that are not there."""
    names = {"number": "43", "item_id": f"{NOBODY}:1"}
    return re.sub(r"\{(\w+)\}", lambda match: names.get(match[1], NOBODY), operation.path)


def test_every_operation_has_its_rights() -> None:
    """The table of rights and the table of operations name the same, and no role is in it that there is not."""
    assert {each.name for each in OPERATIONS} == set(RIGHTS)
    assert ROLES == frozenset().union(*RIGHTS.values())
    assert len({(each.method, each.path) for each in OPERATIONS}) == len(OPERATIONS)


@pytest.mark.parametrize("role", [None, *sorted(ROLES)])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_matrix(service: Served, operation: Operation, role: str | None) -> None:
    """Whoever has the role gets past the door, all others hear 403 and nothing else, whether the thing is there, and its body right, or not."""
    before = service.state()
    path = address(operation)
    bearer = None

    answer = service.ask(
        operation.method, path, role or "nobody", bearer=bearer, raw=b"{ no JSON" if operation.takes else None
    )

    if role is not None and may(frozenset({role}), operation.name):
        assert answer.status_code not in (401, 403)
    else:
        assert problem(answer, "forbidden")
        assert set(answer.json) == {"type", "title", "status"}
    assert before == service.state()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.name)
def test_without_a_token(service: Served, operation: Operation) -> None:
    """Nobody in particular may do nothing."""
    answer = service.client.simulate_request(operation.method, f"/api/v1{address(operation)}", body=b"{ no JSON")

    assert problem(answer, "unauthenticated")


@pytest.mark.parametrize("name", ["case.delete", "", "CASE.GET", "none"])
def test_unknown_operation_is_refused(name: str) -> None:
    """What is not in the table is nobody's right, not an admin's either."""
    assert not may(ROLES, name)


def test_a_role_for_a_part_of_the_world(service: Served) -> None:
    """Several roles give what each of them gives, and no more."""
    assert 200 == service.ask("GET", "/audit", "auditor", "viewer").status_code
    assert 200 == service.ask("GET", "/cases", "auditor", "viewer").status_code
    assert problem(service.ask("POST", "/cases", "auditor", "viewer", body={}), "forbidden")


def test_without_authentication_everybody_is_an_admin() -> None:
    """Where authentication is switched off, nobody is asked who he is."""
    with served(auth_enabled=False) as service:
        assert 200 == service.client.simulate_get("/api/v1/audit").status_code


def test_the_client_of_a_caller_is_his_tenant_and_name() -> None:
    """Two tenants' people of one name are two clients."""
    assert "acme/ann" == Caller(subject="ann", tenant="acme").client


def test_what_each_role_is_for() -> None:
    """Viewers only read, nobody but auditors and admins reads the record, designers alone register, operators alone run cases, participants only work."""
    of = {role: {name for name, roles in RIGHTS.items() if role in roles} for role in ROLES}
    reads = {each.name for each in OPERATIONS if each.method == "GET"}
    record = {"audit.read", "audit.verify"}
    registering = {"workflow.register", "workflow.remove"}
    commands = {each.name for each in OPERATIONS if each.name.startswith("case.")} - reads

    assert set(RIGHTS) == of["admin"]
    assert record == of["auditor"]
    assert reads - record - {"webhook.list"} == of["viewer"]
    assert registering | {"workflow.verify", "pattern.execute"} == of["designer"] - of["viewer"]
    assert set(RIGHTS) - record - registering == of["operator"]
    assert {"item", "work"} == {name.partition(".")[0] for name in of["participant"]}
    assert {"item.offer", "item.skip"} == {name for name in RIGHTS if name.startswith(("item.", "work."))} - of[
        "participant"
    ]
    assert {
        "case.create",
        "case.start",
        "case.execute",
        "case.cancel",
        "case.suspend",
        "case.resume",
        "case.event",
    } == commands
    assert all(frozenset({"operator", "admin"}) == RIGHTS[name] for name in commands)
