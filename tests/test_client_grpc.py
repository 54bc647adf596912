"""The client over gRPC: what it raises and returns is what it does over HTTP."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from knhk import errors
from knhk.client import AsyncClient, Client, Worker
from knhk.client.grpc_sends import JSON_FIELDS, METHODS, method_of
from knhk.client.core import Request
from knhk.server.rpc import messages, methods
from tests.listening import Instance, Shared
from tests.rpc import Called, called
from tests.served import ORDER, token

LABEL: dict[str, Any] = {
    "id": "label",
    "tasks": [{"id": "print", "external": {"topic": "labels"}, "retry": {"max_attempts": 1}}],
    "flows": [{"from": "start", "to": "print"}, {"from": "print", "to": "end"}],
}


def url_of(made: Called) -> str:
    """Where it is called."""
    return f"grpc://127.0.0.1:{made.made.rpc.port}"


@contextmanager
def both() -> Iterator[tuple[Client, Client]]:
    """A client over gRPC and one over HTTP, of one instance."""
    with called() as made, ExitStack() as stack:
        instance = Instance(made.made)
        stack.callback(instance.end)
        yield (
            stack.enter_context(Client(url_of(made), token=token())),
            stack.enter_context(Client(instance.url, token=token())),
        )


def test_results_are_those_of_http() -> None:
    """A workflow, a case, its items and external work go their way, and every look is the same over both."""
    with both() as (rpc, http):
        assert http.workflows.verify(ORDER) == rpc.workflows.register(ORDER).soundness
        rpc.workflows.register(LABEL)
        assert http.workflows.get("order") == rpc.workflows.get("order")
        assert http.workflows.list() == rpc.workflows.list()
        case = rpc.cases.create("order", {"n": 1.5, "deep": {"a": [None, "x"]}}, start=True, key="k")
        assert (
            case
            == http.cases.get(case.case_id)
            == rpc.cases.create("order", {"n": 1.5, "deep": {"a": [None, "x"]}}, start=True, key="k")
        )
        (item,) = rpc.items.list(case_id=case.case_id, state="offered").items
        assert http.items.list().items == (item,)
        rpc.items.start(item.id, expected=case.version)
        rpc.items.complete(item.id, {"ok": True})
        assert rpc.cases.suspend(case.case_id) == http.cases.get(case.case_id)
        rpc.cases.resume(case.case_id)
        assert 0 == rpc.cases.send_event(case.case_id, "news", {"a": 1}).kept
        assert http.cases.history(case.case_id) == rpc.cases.history(case.case_id)
        rpc.cases.cancel(case.case_id)
        rpc.cases.start(rpc.cases.create("order").case_id)
        rpc.cases.execute(rpc.cases.create("label").case_id)
        assert list(http.cases.all(limit=2)) == list(rpc.cases.all(limit=2))

        (claim,) = rpc.work.claim("labels", worker="w", lease=60)
        assert rpc.work.extend(claim, 120).lease > claim.lease
        rpc.work.release(claim)
        (claim,) = rpc.work.claim("labels", worker="w")
        assert rpc.work.fail(claim, "no paper", error="Paper", retryable=False, retry_after=1) is False
        (letter,) = http.dead_letters.list().items
        assert ("Paper", (letter,)) == (letter.error, rpc.dead_letters.list().items)
        assert http.dead_letters.get(letter.id) == rpc.dead_letters.get(letter.id)
        assert ({}, None) == (rpc.dead_letters.get(letter.id).data, letter.data)


def test_refusals_are_those_of_http() -> None:
    """What is refused is the same error with the same members over both."""
    with both() as (rpc, http):
        rpc.workflows.register(ORDER)
        case = rpc.cases.create("order", start=True, key="k")
        for ask in (
            lambda client: client.cases.start(case.case_id),
            lambda client: client.cases.cancel(case.case_id, expected=999),
            lambda client: client.cases.create("order", {"other": 1}, key="k"),
            lambda client: client.workflows.register({**ORDER, "name": "Other"}),
            lambda client: client.workflows.register({"id": "x", "tasks": {"a": {"nonsense": 1}}}),
            lambda client: client.workflows.get("none"),
            lambda client: client.cases.get("none"),
            lambda client: client.cases.list(limit=5000),
            lambda client: client.work.claim("a", lease=-1.0),
        ):
            raised = []
            for client in (rpc, http):
                with pytest.raises(errors.KnhkError) as found:
                    ask(client)
                raised.append(found.value)
            assert type(raised[0]) is type(raised[1])
            assert {**vars(raised[0]), "element": ""} == {**vars(raised[1]), "element": ""}


def test_who_asks_and_what_has_no_method() -> None:
    """A token without the right, and none, are told apart; what gRPC has no method for is refused before it is sent."""
    with called() as made:
        url = url_of(made)
        with Client(url, token=token("bob", "viewer")) as viewer, pytest.raises(errors.Forbidden):
            viewer.cases.create("order")
        with Client(url) as stranger, pytest.raises(errors.ResponseRefused, match="unauthenticated"):
            stranger.cases.list()
        with Client(url, token=token()) as client, pytest.raises(errors.OutboundRefused, match="ask over HTTP"):
            client.health()


def test_a_worker_works_over_grpc() -> None:
    """A worker does the work of a case."""
    with called() as made, Client(url_of(made), token=token()) as client:
        client.workflows.register(LABEL)
        case = client.cases.create("label", start=True)
        worker = Worker(client)
        worker.task("labels")(lambda work: (worker.stop(), {"label": work.attempt})[1])
        worker.run()

        assert ("completed", {"label": 1}) == (
            client.cases.get(case.case_id).state,
            client.cases.get(case.case_id).data,
        )


def test_an_instance_that_drains_or_is_gone_costs_no_call() -> None:
    """Of two instances one drains, and then is gone: every call is answered by the other."""
    store = Shared()
    with called(store=store, instance_id="i0") as left, ExitStack() as stack:
        ending = ExitStack()
        leaves = ending.enter_context(called(store=store, instance_id="i1"))
        urls = [url_of(leaves), url_of(left)]
        client = stack.enter_context(Client(urls, token=token(), check_every=0.0))
        client.workflows.register(ORDER)
        cases = [client.cases.create("order").case_id for _ in range(4)]
        leaves.made.health.draining = True
        cases += [client.cases.create("order").case_id for _ in range(4)]
        ready = {url: each.ready for url, each in client.transport.core.endpoints.items()}
        ending.close()
        cases += [client.cases.create("order").case_id for _ in range(4)]

        assert {urls[0]: False, urls[1]: True} == ready
        assert set(cases) == {each.case_id for each in client.cases.all()}


def test_nobody_there() -> None:
    """Where nobody listens the call was not made, and is said to have failed."""
    with Client("grpc://127.0.0.1:1", attempts=1) as client, pytest.raises(errors.OutboundFailed, match="UNAVAILABLE"):
        client.cases.list()


def test_the_methods_are_those_of_the_service() -> None:
    """What each method stands for, and which fields are JSON, is as the service has it."""
    served = {f"{each.operation.method} {each.operation.path}": name for name, each in methods.METHODS.items()}
    asked = {
        name: method_of(Request(method=route.split()[0], path=route.split()[1])) for route, name in METHODS.items()
    }

    assert METHODS == {route: name for route, name in served.items() if name not in ("WatchCase", "ExecutePattern")} | {
        "GET /cases/{case_id}/history": "GetCaseHistory"
    }
    assert all(name == found for name, (found, _) in asked.items())
    assert JSON_FIELDS == messages.JSON_FIELDS


def test_what_is_needed_and_who_has_it_not() -> None:
    """Without its library the client names the extra; the client for asyncio, and a mixture of addresses, are refused."""
    code = (
        "import sys; sys.modules['grpc'] = None\nimport knhk.client\n"
        "try: knhk.client.Client('grpcs://x')\nexcept knhk.MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "the client over gRPC needs an optional dependency: pip install 'knhk[grpc]'\n" == done.stdout
    Client("grpcs://localhost:9090").close()
    for kind, urls in ((AsyncClient, "grpc://x"), (Client, ["grpc://x", "http://x"]), (Client, "grpc://")):
        with pytest.raises(ValueError, match="no URL"):
            kind(urls)
