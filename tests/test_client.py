"""The client against instances that are served in this process, over real sockets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knhk import errors
from knhk.client import AsyncClient, Client
from knhk.client.balancing import assign, by_weight, consistent, least_connections, round_robin
from knhk.client.problems import error_of
from tests.listening import instances
from tests.served import ORDER, token


Kind = type[Client | AsyncClient]
NAMES = st.lists(st.text("abcdef0123", min_size=1, max_size=6), min_size=1, max_size=8, unique=True)


@pytest.fixture(params=[Client, AsyncClient])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Both kinds of client, which do the same."""
    return request.param


def test_the_operations(kind: Kind) -> None:
    """A workflow, a case and its items go their way through the client, with typed results."""
    with instances(kind=kind) as (client, _):
        registered = client.workflows.register(ORDER)
        case = client.cases.create("order", {"n": 1}, start=True)
        (item,) = client.items.list(case_id=case.case_id).items
        client.items.allocate(item.id)
        started = client.items.start(item.id)
        client.items.complete(item.id, {"ok": True})
        held = client.cases.suspend(case.case_id)
        client.cases.resume(case.case_id)
        others = [client.cases.create("order").case_id for _ in range(4)]
        ended = client.cases.cancel(others[0])
        whole = client.workflows.get("order")
        kinds = [each.kind for each in client.cases.history(case.case_id, limit=1000).items]

        assert ("order", "sound") == (registered.spec_id, registered.soundness.verdict)
        assert ("started", {"n": 1, "ok": True}) == (started.state, client.cases.get(case.case_id).data)
        assert ("suspended", "cancelled") == (held.state, ended.state)
        assert {case.case_id, *others} == {each.case_id for each in client.cases.all(limit=2)}
        assert (whole.soundness, "order") == (registered.soundness, client.workflows.list().items[0].spec_id)
        assert kinds and "sound" == client.workflows.verify(ORDER).verdict
        assert "Healthy" == client.health()["status"]
        assert () == client.dead_letters.list().items
        with pytest.raises(errors.UnknownCase):
            client.cases.get("none")


def test_external_work_and_dead_letters(kind: Kind) -> None:
    """Work is claimed, kept, completed and failed by its token; what failed for good is replayed, and discarded."""
    spec = {
        "id": "label",
        "tasks": [{"id": "print", "external": {"topic": "labels"}, "retry": {"max_attempts": 1}}],
        "flows": [{"from": "start", "to": "print"}, {"from": "print", "to": "end"}],
    }
    with instances(kind=kind) as (client, _):
        client.workflows.register(spec)
        first, second = (client.cases.create("label", {"n": n}) for n in range(2))
        for each in (first, second):
            client.cases.execute(each.case_id)
        one, two = client.work.claim("labels", worker="w", max=2, lease=60)
        kept = client.work.extend(one, 120)
        client.work.complete(one, {"done": True})
        handled = client.work.fail(two, "no paper", retryable=False, retry_after=1)
        with pytest.raises(errors.ClaimLost):
            client.work.complete(one)
        (letter,) = client.dead_letters.list(topic="labels", kind="work").items
        assert ("work", "", ()) == (letter.kind, letter.webhook, client.dead_letters.list(kind="message").items)
        client.dead_letters.replay(letter.id)
        (again,) = client.work.claim("labels", worker="w")
        client.work.fail(again, "no ink", retryable=False)
        client.dead_letters.discard(letter.id, "given up")

        assert kept.deadline > one.deadline and not handled
        assert ("completed", {"n": one.data["n"], "done": True}) == (
            client.cases.get(one.case_id).state,
            client.cases.get(one.case_id).data,
        )
        assert (two.case_id, "no paper") == (letter.case_id, letter.reason.partition(" (")[0])
        assert () == client.dead_letters.list().items


def test_items_and_events(kind: Kind) -> None:
    """An item is given, handed on, laid aside, taken up again and skipped; an event is delivered; a workflow is removed."""
    with instances(kind=kind) as (client, _):
        client.workflows.register(ORDER)
        case = client.cases.create("order", version=client.workflows.get("order").version, start=True)
        (item,) = client.items.list(case_id=case.case_id).items
        client.items.allocate(item.id, "bob")
        client.items.delegate(item.id, "ann")
        client.items.offer(item.id)
        client.items.allocate(item.id, "ann")
        client.items.start(item.id)
        states = [
            client.items.suspend(item.id).state,
            client.items.resume(item.id).state,
            client.items.get(item.id).data,
        ]
        with pytest.raises(errors.KnhkError):
            client.items.fail(f"{case.case_id}:99", "none")
        client.items.complete(item.id)
        (other,) = client.items.list(case_id=case.case_id).items
        client.items.skip(other.id)
        ended = client.cases.get(case.case_id)
        running = client.cases.create("order", start=True)
        delivered = client.cases.send_event(running.case_id, "news", expected=running.version)
        client.cases.cancel(running.case_id)
        client.workflows.remove("order")

        assert ["suspended", "started", {}] == states
        assert ("completed", 0, ()) == (ended.state, delivered.kept, client.workflows.list().items)


def test_refusals_are_the_errors_of_the_tree(kind: Kind) -> None:
    """What the service refuses is raised as the library would raise it, and asked once."""
    with instances(kind=kind) as (client, (one,)):
        client.workflows.register(ORDER)
        case = client.cases.create("order", start=True, key="k")

        with pytest.raises(errors.IllegalTransition) as illegal:
            client.cases.start(case.case_id)
        with pytest.raises(errors.ConcurrentUpdate):
            client.cases.cancel(case.case_id, expected=999)
        with pytest.raises(errors.IdempotencyConflict):
            client.cases.create("order", {"other": 1}, key="k")
        with pytest.raises(errors.SpecificationConflict):
            client.workflows.register({**ORDER, "name": "Other"})
        with pytest.raises(errors.SpecificationError) as wrong:
            client.workflows.register({"id": "x", "tasks": {"a": {"nonsense": 1}}})
        with pytest.raises(errors.UnknownSpecification):
            client.workflows.get("none")
        with pytest.raises(errors.UnknownWorkItem):
            client.items.get(f"{case.case_id}:99")
        with pytest.raises(errors.DataError):
            client.cases.list(limit=5000)
        with Client(one.url, token=token("bob", "viewer")) as viewer, pytest.raises(errors.Forbidden):
            viewer.cases.cancel(case.case_id)
        with Client(one.url) as stranger, pytest.raises(errors.ResponseRefused, match="unauthenticated"):
            stranger.cases.get(case.case_id)

        assert "running" == illegal.value.status
        assert wrong.value.problems
        assert [] == client.waits
        assert len([each for each in one.asked if each.endswith("/start")]) == 1


def test_a_lost_answer_makes_no_second_case(kind: Kind) -> None:
    """A case whose answer was lost is asked for again under its key: there is one."""
    with instances(kind=kind) as (client, (one,)):
        client.workflows.register(ORDER)
        one.faults = [("502 Bad Gateway", "lost", {})]

        made = client.cases.create("order")

        assert [made.case_id] == [each.case_id for each in client.cases.all()]
        assert 2 == one.asked.count("POST /api/v1/cases")


def test_only_what_is_safe_is_sent_again(kind: Kind) -> None:
    """A command without a version is not sent again after an unclear failure; with one it is; a rate limit is waited for."""
    with instances(kind=kind) as (client, (one,)):
        client.workflows.register(ORDER)
        case = client.cases.create("order")
        one.faults = [("503 Service Unavailable", "store-unavailable", {"Retry-After": "1"})]
        with pytest.raises(errors.StoreUnavailable):
            client.cases.start(case.case_id)
        one.faults = [("503 Service Unavailable", "store-unavailable", {"Retry-After": "1"})]
        started = client.cases.start(case.case_id, expected=case.version)
        client.waits.clear()
        one.faults = [("429 Too Many Requests", "rate-limited", {"Retry-After": "3"})]
        client.cases.suspend(case.case_id)
        one.faults = [("507 Insufficient Storage", "storage-full", {})]
        with pytest.raises(errors.StoreFull):
            client.cases.get(case.case_id)

        assert "running" == started.state
        assert 1 == len(client.waits) and 3 <= client.waits[0] <= 4


def test_a_deadline_bounds_all_attempts(kind: Kind) -> None:
    """A wait that would end after the deadline is not begun: the error of the last attempt is raised."""
    with instances(kind=kind, timeout=20.0) as (client, (one,)):
        one.faults = [("429 Too Many Requests", "rate-limited", {"Retry-After": "60"})]

        with pytest.raises(errors.ResponseRefused) as late:
            client.cases.list()

        assert (60.0, True, []) == (late.value.retry_after, late.value.retryable, client.waits)


def test_an_instance_that_drains_costs_no_request(kind: Kind) -> None:
    """While one of three instances drains, and after it is gone, every call is answered, none by it."""
    with instances(3, kind=kind, check_every=0.0) as (client, several):
        client.workflows.register(ORDER)
        for _ in range(6):
            client.cases.create("order")
        before = [len(each.asked) for each in several]
        several[0].made.health.draining = True
        for _ in range(6):
            client.cases.create("order")
        several[0].end()
        gone = len(several[0].asked)
        for _ in range(6):
            client.cases.list()

        assert min(before) >= 2
        assert before[0] == gone
        assert 12 == len(list(client.cases.all()))


def test_an_endpoint_that_turns_away_passes_the_call_on(kind: Kind) -> None:
    """A command that a draining instance refuses, or that could not be sent at all, is done by another, once."""
    with instances(2, kind=kind, check_every=1e9) as (client, several):
        client.workflows.register(ORDER)
        cases = [client.cases.create("order") for _ in range(2)]
        for each in several:
            each.faults = [("503 Service Unavailable", "draining", {"Retry-After": "1"})]
        several[1].faults.clear()
        first = client.cases.start(cases[0].case_id)
        several[0].end()
        client.transport.core.endpoints[several[0].url].ready = True
        client.transport.core.endpoints[several[1].url].ready = True
        done = [client.cases.get(cases[1].case_id).state for _ in range(4)]

        assert ("running", []) == (first.state, client.waits)
        assert [cases[1].state] * 4 == done


def test_a_case_keeps_its_endpoint(kind: Kind) -> None:
    """With consistent hashing every call about a case goes to one instance."""
    with instances(3, kind=kind, balancing="consistent-hashing") as (client, several):
        client.workflows.register(ORDER)
        case = client.cases.create("order")
        for each in several:
            each.asked.clear()
        for _ in range(5):
            client.cases.get(case.case_id)

        assert [0, 0, 5] == sorted(len(each.asked) for each in several)


def test_a_broken_endpoint_is_left_alone(kind: Kind) -> None:
    """An endpoint that fails again and again is not asked while its breaker is open."""
    with instances(kind=kind, attempts=1) as (client, (one,)):
        one.faults = [("500 Internal Server Error", "", {})] * 10
        for _ in range(5):
            with pytest.raises(errors.ResponseRefused):
                client.cases.list()

        with pytest.raises(errors.OutboundFailed, match="left alone"):
            client.cases.list()

        assert 5 == len(one.asked)


@pytest.mark.parametrize("urls", [[], ["ftp://x"], "localhost:8080"])
def test_an_address_that_is_none_is_refused(urls: Any) -> None:
    """A client is not made of what cannot be called."""
    with pytest.raises(ValueError, match="URL"):
        Client(urls)


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_without_its_library_a_client_says_how_to_get_it(name: str) -> None:
    """Importing the package loads no HTTP library; making a client without one names the extra."""
    code = (
        "import sys; sys.modules['urllib3'] = sys.modules['httpx'] = None\nimport knhk.client\n"
        f"try: knhk.client.{name}('http://x')\nexcept knhk.MissingExtra as error: print(error)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "the client needs an optional dependency: pip install 'knhk[client]'\n" == done.stdout


def test_tasks_share_a_client() -> None:
    """Calls of one client for asyncio are under way at once; one that is cancelled leaves nothing behind."""

    async def play(url: str) -> None:
        async with AsyncClient(url, token=token()) as client:
            await client.workflows.register(ORDER)
            made = await asyncio.gather(*(client.cases.create("order", {"n": n}) for n in range(8)))
            waits = asyncio.create_task(client.work.claim("nothing", wait=20))
            (endpoint,) = client.transport.core.endpoints.values()
            while not endpoint.under_way:
                await asyncio.sleep(0)
            waits.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waits

            assert {each.case_id for each in made} == {each.case_id async for each in client.cases.all(limit=3)}
            assert 0 == endpoint.under_way

    with instances() as (_, (one,)):
        asyncio.run(play(one.url))
        one.made.service.polls.end()


def test_an_answer_of_somebody_else_is_refused() -> None:
    """What is no problem of KNHK's is told as the status that it is; a conflict without a state is a refused command."""
    assert isinstance(error_of("/cases", 404, None), errors.ResponseRefused)
    assert errors.CommandError is type(error_of("/cases/a/start", 409, {"type": "urn:knhk:problem:conflict"}))
    lost = error_of("/work/a:1/complete", 409, {"type": "urn:knhk:problem:conflict", "state": "gone", "allowed": ["x"]})
    assert isinstance(lost, errors.ClaimLost)
    assert ("gone", "complete", ("x",)) == (lost.status, lost.command, lost.allowed)


# --- balancing ------------------------------------------------------------------------------------------------------------


@given(NAMES, st.integers(0, 1000))
def test_round_robin_gives_each_its_turn(names: list[str], first: int) -> None:
    """In as many turns as there are names each is first once."""
    assert sorted(names) == sorted(round_robin(names, first + turn)[0] for turn in range(len(names)))


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 9), min_size=1), st.integers(0, 99))
def test_least_connections_takes_who_has_fewest(loads: dict[str, int], turn: int) -> None:
    """Candidates come by load."""
    order = least_connections(loads, turn)

    assert sorted(loads.values()) == [loads[name] for name in order]


@settings(max_examples=25, deadline=None)
@given(NAMES, st.lists(st.text(max_size=8), max_size=30, unique=True))
def test_a_joining_endpoint_moves_only_what_it_gets(names: list[str], keys: list[str]) -> None:
    """Where a key moves when an endpoint joins, it moves to that endpoint."""
    before = {key: by_weight(names, key)[0] for key in keys}
    after = {key: by_weight([*names, "new"], key)[0] for key in keys}

    assert {"new"} >= {after[key] for key in keys if before[key] != after[key]}


@settings(max_examples=25, deadline=None)
@given(NAMES, st.text(max_size=5), st.integers(1, 80))
def test_a_key_that_all_ask_for_drowns_nobody(names: list[str], key: str, calls: int) -> None:
    """However calls are spread over keys, nobody has more than 1.25 times his share, rounded up."""
    homes = assign(names, [f"{key}{number % 2}" + "x" * number for number in range(calls)])
    loads = dict.fromkeys(names, 0)
    for _ in range(calls):
        loads[consistent(loads, key)[0]] += 1

    most = -(-125 * calls // (100 * len(names)))
    assert calls == len(homes) and max(loads.values()) <= most
    assert set(names) == set(consistent(loads, key))


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_the_keys_that_move(count: int) -> None:
    """A joining endpoint moves at most 1/N + 5 % of the keys, and the fullest has no more than 1.25 times its share."""
    names = [f"http://knhk-{number}:8080" for number in range(count)]
    keys = [f"case-{number}" for number in range(4000)]

    before, after = assign(names[:-1], keys), assign(names, keys)

    moved = sum(before[key] != after[key] for key in keys) / len(keys)
    fullest = max(list(after.values()).count(name) for name in names)
    print(f"{count - 1} -> {count}: {moved:.1%} of the keys move, the fullest has {fullest / len(keys):.1%}")
    assert moved <= 1 / count + 0.05
    assert fullest <= 1.25 * len(keys) / count + 1


def test_no_candidates_give_no_order() -> None:
    """Of nobody nobody is chosen; a bound that leaves no room is refused."""
    assert ((), (), ()) == (round_robin([], 3), least_connections({}, 3), consistent({}, "a"))
    with pytest.raises(ValueError, match="above 1"):
        consistent({"a": 0}, "k", bound=1.0)
