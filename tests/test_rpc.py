"""gRPC: what is its own: metadata, status codes, limits, deadlines, health, reflection and the code that is made from the description."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_tools import protoc

from knhk.rpc import PROTO, SERVICE
from knhk.server.operations import OPERATIONS
from knhk.server.problems import TITLES, Problem
from knhk.server.rights import RIGHTS, ROLES, may
from knhk.server.rpc.methods import METHODS
from knhk.server.rpc.statuses import code_of, metadata_of, text_of
from tests.rpc import Called, called, refusal, registered
from tests.served import ORDER, stop_rates, token
from tests.test_server_identity import HOSTILE

ROOT = Path(__file__).resolve().parent.parent
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def service() -> Iterator[Called]:
    """A service with a workflow and a case."""
    with called() as made:
        registered(made)
        made.call("CreateCase", spec_id="order", start=True)
        yield made


# --- the description ------------------------------------------------------------------------------------------------------


def test_generated_code_is_what_the_description_gives(tmp_path: Path) -> None:
    """What is checked in is what `make proto` makes."""
    made = [f"--{each}=" + str(tmp_path) for each in ("python_out", "pyi_out", "grpc_python_out")]

    assert 0 == protoc.main(["protoc", f"-I{ROOT}", *made, str(PROTO)])
    files = sorted(each.relative_to(tmp_path) for each in tmp_path.rglob("*.py*"))
    assert 3 == len(files)
    for each in files:
        assert (tmp_path / each).read_text() == (ROOT / each).read_text(), f"{each}: run `make proto`"


def test_messages_say_what_operations_take_and_give() -> None:
    """Each message of a request has the fields of its operation, and each of an answer those of its shape, by the same names."""
    for method in METHODS.values():
        operation = method.operation
        asked = {*method.names, *operation.query, *(("limit", "cursor") if operation.paged else ())}
        asked |= {"if_version"} if operation.conditional else set()
        asked |= set() if operation.takes is None else set(operation.takes.__struct_fields__)
        said = {each.name for each in method.takes.DESCRIPTOR.fields}
        given = {each.name for each in method.gives.DESCRIPTOR.fields}
        if method.streams:
            assert {"case_id", "after"} == said
        else:
            assert asked == said - {"yaml"}, method.name
            fields = set() if operation.gives is None else set(operation.gives.__struct_fields__)
            assert fields - {"next"} == given - {"next"}, method.name
    assert {each.name for each in OPERATIONS} >= {each.operation.name for each in METHODS.values()}


# --- who may ask ----------------------------------------------------------------------------------------------------------


def test_hostile_tokens(service: Called) -> None:
    """A token that is not exactly what was configured is refused, and nothing has changed; the right one then counts."""
    before = service.service.state()

    for name, hostile in HOSTILE.items():
        if hostile.isascii() and hostile.isprintable():
            told = service.refused("CancelCase", case_id="any", metadata=[("authorization", f"Bearer {hostile}")])
            # The library refuses metadata that are too long before anybody looks at them.
            long = len(hostile) > 10_000 and told.code is Code.RESOURCE_EXHAUSTED
            assert long or (Code.UNAUTHENTICATED, "unauthenticated") == (told.code, told.kind), name
            assert hostile[:40] not in told.text

    assert before == service.service.state()
    assert service.call("ListCases").items


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", token())],
        [("authorization", f"Basic {token()}")],
        [("authorization-bin", f"Bearer {token()}".encode())],
        [("authorization", f"Bearer {token()}"), ("authorization", f"Bearer {token()}")],
        [("x-authorization", f"Bearer {token()}")],
        [("cookie", f"token={token()}")],
    ],
)
def test_the_token_is_in_one_place(service: Called, metadata: list[tuple[str, str]]) -> None:
    """A token anywhere else than once in `authorization` is none."""
    assert Code.UNAUTHENTICATED == service.refused("ListCases", metadata=metadata).code


@pytest.mark.parametrize("role", [None, *sorted(ROLES)])
def test_matrix(service: Called, role: str | None) -> None:
    """Whoever has the role gets past the door; all others hear PERMISSION_DENIED, whatever the message is."""
    before = service.service.state()

    for method in METHODS.values():
        told = service.refused_raw(
            method.path, b"\xff no message", service.metadata(role or "nobody"), streams=method.streams
        )
        allowed = role is not None and may(frozenset({role}), method.operation.name)
        assert (
            (Code.INVALID_ARGUMENT, "malformed") == (told.code, told.kind)
            if allowed
            else (
                Code.PERMISSION_DENIED,
                "forbidden",
            )
            == (told.code, told.kind)
        ), method.name

    assert before == service.service.state()


def test_what_is_no_method(service: Called) -> None:
    """A method that there is not is UNIMPLEMENTED, and on record where its address is the service's."""
    told = service.refused_raw(f"/{SERVICE}/DropTables", b"")
    elsewhere = service.refused_raw("/another.Service/Method", b"")

    assert (Code.UNIMPLEMENTED, "method-not-allowed") == (told.code, told.kind)
    assert (Code.UNIMPLEMENTED, "") == (elsewhere.code, elsewhere.kind)


# --- what a message may be ------------------------------------------------------------------------------------------------


def test_messages_that_are_none(service: Called) -> None:
    """Bytes that are no message, fields that nobody knows, and texts that are not UTF-8 are refused; nesting of messages is too."""
    case = service.call("ListCases").items[0].case_id.encode()
    known = b"\x0a" + bytes([len(case)]) + case
    get = f"/{SERVICE}/GetCase"

    unknown = service.refused_raw(get, known + b"\x98\x06\x01")
    deep = service.refused_raw(get, b"\x9b\x06" * 100_000)

    assert ("invalid", ["field 99"]) == (unknown.kind, [each.place for each in unknown.problem.problems])
    assert ["malformed"] * 3 == [
        deep.kind,
        service.refused_raw(get, b"\x0a\xff").kind,
        service.refused_raw(get, b"\x0a\x02\xff\xfe").kind,
    ]


def test_message_that_is_too_large(service: Called) -> None:
    """More than 4 MB is refused before it is read."""
    told = service.refused("CreateCase", spec_id="order", data='{"a":"%s"}' % ("a" * 4 * 1024 * 1024))

    assert Code.RESOURCE_EXHAUSTED == told.code


def test_metadata_besides(service: Called) -> None:
    """An answer says its trace, the version of the case and what is left of the limit; a key that is none is refused."""
    _, call = service.stub.CreateCase.with_call(
        service.message("CreateCase", {"spec_id": "order"}),
        metadata=service.metadata(traceparent=f"00-{'4' * 32}-{'5' * 16}-01"),
    )
    trailing = dict(call.trailing_metadata())

    assert ("4" * 32, '"1"') == (trailing["trace-id"], trailing["etag"])
    assert '"default";r=' in trailing["ratelimit"]
    assert (
        "invalid"
        == service.refused("CreateCase", spec_id="order", metadata=service.metadata(idempotency_key="k" * 201)).kind
    )


# --- status codes ---------------------------------------------------------------------------------------------------------


def test_every_problem_has_a_code() -> None:
    """Each kind of problem has its status code; no other than a bug of ours is INTERNAL, none is UNKNOWN."""
    codes = {kind: code_of(Problem(kind=kind)) for kind in TITLES}

    assert {"internal"} == {kind for kind, code in codes.items() if code in (Code.INTERNAL, Code.UNKNOWN, Code.OK)}
    assert Code.ABORTED == code_of(Problem(kind="conflict", raced=True))


def test_a_problem_of_any_size_fits() -> None:
    """However much is wrong, the details stay small enough for what clients take, and halves of surrogates do not break them."""
    many = tuple(SimpleNamespace(place="p" * 999, message="ü\ud800" * 999) for _ in range(999))
    problem = Problem(kind="invalid", detail="d\ud800" * 9_999, findings=many, more={"m": "m" * 9_999})

    told = dict(metadata_of(problem))["grpc-status-details-bin"]

    assert len(told) < 5_000
    assert text_of(problem).encode()
    assert len(Status.FromString(told).details) == 1


def test_a_specification_as_yaml(service: Called) -> None:
    """A specification may come as YAML; one of both there must be."""
    text = "id: typed\ntasks:\n  a: {manual: true}\nflows:\n- {from: start, to: a}\n- {from: a, to: end}\n"

    assert "typed" == service.call("RegisterWorkflow", yaml=text).spec_id
    assert "invalid" == service.refused("RegisterWorkflow").kind
    assert "malformed" == service.refused("RegisterWorkflow", yaml="a: [").kind
