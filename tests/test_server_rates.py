"""Limits: so many requests a second for each client, whatever headers say, and no client pays for another."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import limits.strategies
import pytest
from servers import RedisServer, place

from knhk.server.configuration import ConfigurationError, load
from knhk.server.counts import CommonCounts
from knhk.server.problems import Problem
from knhk.server.rates import Rates
from knhk.server.serving import make
from knhk.server.windows import Windows
from tests.served import Served, StoppedTime, problem, served, stop_rates, token


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StoppedTime:
    """The clock by which requests are counted."""
    return stop_rates(monkeypatch)


def admitted(rates: Rates, client: str, count: int) -> int:
    """How many of so many requests are admitted."""
    passed = 0
    for _ in range(count):
        try:
            rates.admit(client)
        except Problem:
            continue
        passed += 1
    return passed


def test_burst_of_four_times_the_limit(clock: StoppedTime) -> None:
    """Of four times the limit, for five seconds, the limit and one burst pass, within a tenth."""
    rates = Rates(100, {})
    passed = 0
    for _ in range(5 * 100):
        passed += admitted(rates, "default/hog", 4)
        clock.at += 0.01

    assert 0.8 * 500 <= passed <= 1.1 * 600


def test_neighbour_is_not_refused(clock: StoppedTime) -> None:
    """Whoever sends ten a second beside somebody who sends four hundred is never refused."""
    rates = Rates(100, {})
    for _ in range(300):
        admitted(rates, "default/hog", 4)
        if round(clock.at * 100) % 10 == 0:
            assert 1 == admitted(rates, "default/polite", 1)
        clock.at += 0.01


def test_polite_client_is_never_refused(clock: StoppedTime) -> None:
    """Nine tenths of the limit, evenly, always pass."""
    rates = Rates(100, {})
    for _ in range(900):
        assert 1 == admitted(rates, "default/even", 1)
        clock.at += 1 / 90


def test_own_rate(clock: StoppedTime) -> None:
    """A client may have a rate of his own, also one below one a second."""
    rates = Rates(100, {"default/slow": 2.0, "acme/rare": 0.5})

    assert (2, 100, 1) == (
        admitted(rates, "default/slow", 10),
        admitted(rates, "default/other", 200),
        admitted(rates, "acme/rare", 10),
    )
    clock.at += 4.1
    assert 1 == admitted(rates, "acme/rare", 10)


def flood(service: Served, count: int, **headers: str) -> Counter[int]:
    """So many requests of one client at once, by status."""
    return Counter(service.ask("GET", "/cases", headers=headers).status_code for _ in range(count))


@pytest.mark.usefixtures("clock")
def test_headers_tell_what_is_left() -> None:
    """Answers tell the limit and what is left of it, refusals when to come again."""
    with served(rate_limit=5.0) as service:
        first = service.ask("GET", "/cases")
        rest = [service.ask("GET", "/cases") for _ in range(9)]

    assert ('"default";q=5;w=1', '"default";r=4;t=1') == (first.headers["ratelimit-policy"], first.headers["ratelimit"])
    refused = [each for each in rest if each.status_code == 429]
    assert refused
    assert all(problem(each, "rate-limited") and each.headers["retry-after"] == "1" for each in refused)


@pytest.mark.usefixtures("clock")
def test_forged_headers_change_nothing() -> None:
    """Neither other headers nor fresh tokens make another client of somebody; another name does."""
    with served(rate_limit=5.0) as service:
        statuses = Counter(
            service.ask(
                "GET",
                "/cases",
                bearer=token("ann", "viewer", seconds=100 + number),
                headers={"X-Forwarded-For": f"10.0.0.{number}", "User-Agent": f"u{number}"},
            ).status_code
            for number in range(20)
        )
        assert 5 == statuses[200]
        assert 200 == service.ask("GET", "/cases", sub="bob").status_code
        assert 200 == service.ask("GET", "/cases", tenant="acme").status_code


@pytest.mark.usefixtures("clock")
def test_flood_without_tokens() -> None:
    """Whoever floods with bad tokens is refused by his address, and whoever has a good one there is not."""
    with served(rate_limit=5.0) as service:
        statuses = Counter(service.ask("GET", "/cases", bearer="a.b.c").status_code for _ in range(50))

        assert {401: 5, 429: 45} == statuses
        assert 200 == service.ask("GET", "/cases").status_code
        assert [200] * 20 == [service.client.simulate_get("/health/live").status_code for _ in range(20)]


@pytest.mark.usefixtures("clock")
def test_overrides_are_configured() -> None:
    """Other rates come from the configuration."""
    with served(rate_limit=1.0, rate_limit_overrides="default/ann=50,acme/bob=2.5") as service:
        assert {200: 20} == flood(service, 20)


@pytest.mark.usefixtures("clock")
def test_no_limit() -> None:
    """Where limits are switched off nobody is refused, and nothing is said of them."""
    with served(rate_limit=1.0, rate_limit_enabled=False) as service:
        assert {200: 20} == flood(service, 20)
        assert "ratelimit" not in service.ask("GET", "/cases").headers


def test_many_clients_need_little_memory(clock: StoppedTime) -> None:
    """Clients that are gone are forgotten."""
    rates = Rates(100, {})
    for number in range(3_000):
        rates.admit(f"default/{number}")
    clock.at += 10
    rates.admit("default/last")

    assert 1 == len(cast("Windows", rates._own.storage))


def test_a_clock_that_is_set_back_starves_nobody(clock: StoppedTime) -> None:
    """Where the clock goes back by an hour, requests are counted anew from there."""
    rates = Rates(5, {})
    assert 5 == admitted(rates, "default/ann", 10)
    clock.at -= 3_600

    assert 5 == admitted(rates, "default/ann", 10)


def test_instances_count_together(redis: str) -> None:
    """What one instance has admitted another counts too, of clients and of strangers; in another namespace it does not."""
    one, two = (Rates(100, {"default/rare": 0.001}, CommonCounts(place(redis, "rates"))) for _ in range(2))
    apart = Rates(100, {"default/rare": 0.001}, CommonCounts(place(redis, "others")))

    assert [1, 0, 0, 1] == [admitted(each, "default/rare", 1) for each in (one, two, one, apart)]
    one._rate = two._rate = one._overrides["default/rare"]
    one.admit_stranger("192.0.2.1")
    with pytest.raises(Problem, match="at most 1 requests"):
        two.admit_stranger("192.0.2.1")
    for each in (one, two, apart):
        each.close()


def test_an_instance_counts_alone_while_the_others_cannot_be_asked(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A count that is out of reach refuses nobody whom this instance would admit, is not asked by each request, and counts again."""
    rates = Rates(100, {"default/a": 0.001, "default/b": 0.001}, CommonCounts(own_redis.url))
    own_redis.stop()
    monkeypatch.setattr("knhk.server.rates.AWAY", 3600.0)

    assert [1, 0, 1] == [admitted(rates, client, 1) for client in ("default/a", "default/a", "default/b")]
    assert 1 == len([each for each in caplog.records if "requests are counted by this instance alone" in each.message])
    own_redis.start()
    assert 0 == admitted(rates, "default/a", 1)
    rates._away_until = 0.0
    assert [1, 0] == [admitted(rates, "default/a", 1) for _ in range(2)]
    rates.close()


def test_instances_on_redis_count_together_unless_they_are_told_otherwise(redis: str, tmp_path: Path) -> None:
    """Two services on one Redis answer 429 to what both together are asked too often, and each for itself where that is said."""
    (tmp_path / "key").write_text("a key that signs the record")
    settings: dict[str, Any] = {"rate_limit_overrides": "default/rare=0.001", "audit_key_file": str(tmp_path / "key")}
    for counts, second in (("", 429), ("none", 200)):
        store = place(redis, f"counts{second}")
        with ExitStack() as stack:
            told = {**settings, "state_path": store, "rate_limit_store": counts}
            pair = [stack.enter_context(served(**told, instance_id=name)) for name in ("one", "two")]
            assert [200, second] == [each.ask("GET", "/cases", sub="rare").status_code for each in pair]


@pytest.mark.parametrize("address", ["etcd://host", "redis://u:secret@host?namespace={x}"])
def test_where_requests_cannot_be_counted(address: str) -> None:
    """An address that is no Redis's is refused, and no password is shown."""
    with pytest.raises(ConfigurationError, match="WORKFLOW_RATE_LIMIT_STORE") as refused:
        make(load({"WORKFLOW_STATE_PATH": "memory:", "WORKFLOW_RATE_LIMIT_STORE": address}).settings)

    assert "secret" not in str(refused.value)
