"""`knhk doctor`: each thing that a deployment may lack is named, where it is lacking."""

from __future__ import annotations

import base64
import json
import threading
import wsgiref.simple_server
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from knhk.cli import commands_doctor, diagnosis
from knhk.cli.app import knhk
from knhk.cli.diagnosis import slow_series, token_fault
from knhk.errors import StoreUnavailable
from knhk.server.census import LATE, Census
from knhk.server.components import components
from knhk.server.identity import make_token
from tests.served import SECRET, Served, served, token
from tests.test_server_health import Failing, gone

WAITING: dict[str, Any] = {
    "id": "waiting",
    "tasks": [{"id": "wait", "timer": "1h"}],
    "flows": [{"from": "start", "to": "wait"}, {"from": "wait", "to": "end"}],
}


class _Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def at_an_address(service: Served) -> Iterator[str]:
    """Serve over a socket; gives the address."""
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, service.made.wsgi, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no machine for too slow, and no variable from outside."""
    monkeypatch.setattr(commands_doctor, "_FAR", 60.0)
    monkeypatch.setattr(diagnosis, "SLOW", dict.fromkeys(diagnosis.SLOW, 5.0))
    monkeypatch.delenv("WORKFLOW_TOKEN", raising=False)


def doctor(*arguments: str) -> tuple[int, dict[str, tuple[bool | None, str]]]:
    """What the doctor says: the exit code, and by part whether it is good, and why not."""
    done = CliRunner().invoke(knhk, ["doctor", "--json", *arguments])
    return done.exit_code, {each["name"]: (each["good"], each["detail"]) for each in json.loads(done.stdout)}


def wrong(*arguments: str) -> dict[str, str]:
    """What the doctor finds wrong."""
    code, parts = doctor(*arguments)
    found = {name: detail for name, (good, detail) in parts.items() if good is False}
    assert (1 if found else 0) == code
    return found


def test_nothing_is_wrong() -> None:
    """Of an instance that works everything is looked at, and good; without a token that is not looked at."""
    with served() as service, at_an_address(service) as address:
        service.made.census.walk()
        code, parts = doctor(address, "--token", token())
        without = doctor(address)

    assert 0 == code
    assert {True} == {good for good, _ in parts.values()}
    assert {"alive", "ready", "store", "audit", "timers", "outbox", "breakers", "automatic-work"} <= set(parts)
    assert {"network latency", "store latency", "pattern latency", "token"} <= set(parts)
    assert (0, None) == (without[0], without[1]["token"][0])


def test_address_and_token_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address it is that of the configuration, which is refused where it is wrong; the token may be a variable's."""
    with served() as service, at_an_address(service) as address:
        monkeypatch.setenv("WORKFLOW_API_PORT", address.rpartition(":")[2])
        monkeypatch.setenv("WORKFLOW_TOKEN", token())
        parts = doctor()[1]
        monkeypatch.setenv("WORKFLOW_API_PORT", "x")
        refused = CliRunner().invoke(knhk, ["doctor"])

    assert (address, True) == (parts["alive"][1], parts["token"][0])
    assert 2 == refused.exit_code


def test_nobody_answers() -> None:
    """Where nobody answers, or somebody else does, that is all there is to say."""
    with served() as service, at_an_address(service) as address:
        assert {"alive"} == set(wrong(f"{address}/elsewhere"))
    assert "does not answer" in wrong(address)["alive"]


def test_engine_not_ready() -> None:
    """Where the store is out of reach, the instance is not ready, and both are named; where it ends, that."""
    store = Failing()
    with served(store=store) as service, at_an_address(service) as address:
        store.trouble = gone
        found = wrong(address)
        store.trouble = lambda: None
        service.made.health.draining = True
        ending = wrong(address)

    assert "out of reach" in found["ready"]
    assert "out of reach" in found["store"]
    assert "draining" == ending["ready"]


@pytest.mark.parametrize(("histogram", "part"), [("store_seconds", "store latency"), ("patterns", "pattern latency")])
def test_high_latency(histogram: str, part: str) -> None:
    """Where the store, or patterns, take long, that part is named, with what takes how long."""
    with served() as service, at_an_address(service) as address:
        for _ in range(100):
            getattr(service.made.figures, histogram).labels("7").observe(20.0)
        found = wrong(address)

    assert {part} == set(found)
    assert "7: " in found[part]


def test_network_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the way to the instance is long, that is named."""
    monkeypatch.setattr(commands_doctor, "_FAR", 0.0)
    with served() as service, at_an_address(service) as address:
        assert {"network latency"} == set(wrong(address))


def test_figures_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no figures, what they would tell is not looked at."""
    asked = commands_doctor._ask
    monkeypatch.setattr(
        commands_doctor, "_ask", lambda url, *a, **k: (404, "") if url.endswith("/metrics") else asked(url, *a, **k)
    )
    with served() as service, at_an_address(service) as address:
        _, parts = doctor(address)

    assert (None, None) == (parts["store latency"][0], parts["pattern latency"][0])


def test_one_of_twenty() -> None:
    """A series is slow where a twentieth takes longer than it may, and it is known from twenty on."""
    bounds = ("0.5", "5.0", "10.0", "+Inf")

    def slow(*counts: int) -> tuple[int, dict[str, float]]:
        lines = [
            f'knhk_store_seconds_bucket{{le="{bound}",operation="load"}} {count}'
            for bound, count in zip(bounds, counts, strict=True)
        ]
        return slow_series("\n".join(["# TYPE knhk_store_seconds histogram", *lines, ""]), "knhk_store_seconds")

    assert (100, {}) == slow(0, 95, 100, 100)
    assert (100, {"load": 5.0}) == slow(0, 94, 100, 100)
    assert (19, {}) == slow(0, 0, 0, 19)


TOKENS = {
    "a part is missing": (token().rpartition(".")[0], "three parts"),
    "it was cut": ("." + token().partition(".")[2], "copied whole"),
    "it has expired": (token(seconds=600, now=1_000_000), "it counted until 1970-01-12"),
    "it has no end": (
        make_token(SECRET.encode(), subject="ann", roles=["admin"]).split(".")[0] + ".eyJzdWIiOiJhIn0.x",
        "until when",
    ),
    "it has no subject": (token("", "admin"), "no subject"),
    "another secret": (make_token(b"x" * 32, subject="ann", roles=["admin"]), "whose log says why"),
}


@pytest.mark.parametrize("name", TOKENS)
def test_authentication_failure(name: str) -> None:
    """A token that does not count is wrong, and what can be seen of why is said, without the token."""
    bearer, why = TOKENS[name]
    with served() as service, at_an_address(service) as address:
        found = wrong(address, "--token", bearer)

    assert {"token"} == set(found)
    assert why in found["token"]
    assert bearer not in found["token"]


def test_token_without_rights() -> None:
    """A token that counts and may do nothing is no failure; the remark says what it lacks."""
    with served() as service, at_an_address(service) as address:
        code, parts = doctor(address, "--token", make_token(SECRET.encode(), subject="ann", roles=[]))

    assert (0, True) == (code, parts["token"][0])
    assert "no `roles`" in parts["token"][1]


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"sub": "a", "exp": 9e9, "nbf": 8e9, "roles": ["viewer"]}, "counts from 2223"),
        ({"sub": "a", "exp": -1e300, "roles": ["viewer"]}, "counted until -1e+300"),
        ({"sub": "a", "exp": True, "roles": ["viewer"]}, "until when"),
        ({"sub": "a", "exp": 9e9, "roles": ["viewer"]}, ""),
    ],
)
def test_text_of_a_token(claims: dict[str, Any], why: str) -> None:
    """What is wrong with a token's claims is said, of whatever they are."""
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")

    said = token_fault(f"e30.{part}.x", 1_000.0)

    assert bool(why) == bool(said)
    assert why in said


# --- components -------------------------------------------------------------------------------------------------------


def test_timers_that_are_late() -> None:
    """A timer that has not fired ten seconds after its time is told, and so is that nobody has counted yet, or could."""
    store = Failing()
    with served(store=store) as service:
        service.register(WAITING)
        service.case(spec_id="waiting")
        now = [service.made.tenants.engine("default")._cache.clock.now()]
        census = Census(store, lambda: [], lambda: 5.0, lambda: now[0])
        timers = components(census, list)["timers"]
        first = timers()
        census.walk()
        good = timers()
        now[0] += 3_600_000 + LATE + 1
        census.walk()
        late = timers()

    assert {"status": "up", "age": None, "detail": "not counted yet"} == first
    assert {"status": "up", "age": 0.0, "detail": ""} == good
    assert ("degraded", True) == (late["status"], late["detail"].startswith("1 cases wait"))
    census.failure = StoreUnavailable("the disk is gone")
    assert ("degraded", "StoreUnavailable") == (timers()["status"], timers()["detail"].rpartition(" ")[2])


def test_breakers_that_are_open() -> None:
    """Breakers that are not closed are named, the first few of them."""
    with served() as service:
        engine = service.made.tenants.engine("default")
        for number in range(7):
            engine.breaker(f"bank{number}", minimum_calls=1)
        said = [components(service.made.census, service.made.tenants.engines)["breakers"]()]
        for breaker in engine.breakers.values():
            passed = breaker.ask()
            assert passed is not None
            passed.end(answered=False)
        said.append(components(service.made.census, service.made.tenants.engines)["breakers"]())

    assert {"status": "up", "age": 0.0, "detail": "7 breakers, all closed"} == said[0]
    assert "degraded" == said[1]["status"]
    assert "not closed: bank0, bank1, bank2, bank3, bank4 and 2 more" == said[1]["detail"]
