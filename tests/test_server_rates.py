"""Limits: so many requests a second for each client, whatever headers say, and no client pays for another."""

from __future__ import annotations

from collections import Counter
from typing import cast

import limits.strategies
import pytest

from knhk.server.problems import Problem
from knhk.server.rates import Rates
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

    assert 1 == len(cast("Windows", rates._limiter.storage))


def test_a_clock_that_is_set_back_starves_nobody(clock: StoppedTime) -> None:
    """Where the clock goes back by an hour, requests are counted anew from there."""
    rates = Rates(5, {})
    assert 5 == admitted(rates, "default/ann", 10)
    clock.at -= 3_600

    assert 5 == admitted(rates, "default/ann", 10)
