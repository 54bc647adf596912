"""Figures at /metrics: what the service, its engines and its store do, and what specifications declare."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from knhk import Engine, Specification
from knhk.errors import ConcurrentUpdate, StoreUnavailable
from knhk.server.census import Census
from knhk.server.figures import OTHER, Figures, bounded
from knhk.server.gauges import MOST_CUSTOM, _custom
from knhk.server.metering import metered
from knhk.stores import MemoryStore
from knhk.work.metrics import Distribution, MetricReading
from tests.served import ORDER, Served, served

COUNTED: dict[str, Any] = {
    **ORDER,
    "metrics": [
        {"name": "orders", "kind": "counter", "on": "case_created", "labels": {"region": "data.region"}},
        {"name": "size", "kind": "histogram", "on": "case_created", "value": "data.size", "buckets": [10]},
    ],
}


def figures(service: Served) -> dict[str, float]:
    """What /metrics says, by name and labels."""
    text = service.client.simulate_get("/metrics").text
    return {name: float(value) for name, value in re.findall(r"^([^#\n]\S*(?:\{.*\})?) (\S+)$", text, re.MULTILINE)}


def test_what_is_done_is_counted() -> None:
    """Requests, states, steps, items, calls of the store, queues and refusals have their figures."""
    with served() as service:
        service.register()
        for _ in range(2):
            service.ask("POST", f"/workitems/{service.item(service.case())}/complete", body={})
        service.ask("GET", "/cases", bearer="none")
        service.made.census.walk()
        found = figures(service)

    assert 2.0 == found['knhk_case_transitions_total{state="running"}']
    assert (2.0, 0.0) == (found['knhk_cases{state="running"}'], found['knhk_cases{state="failed"}'])
    assert 2.0 == found['knhk_work_items{state="offered"}']
    assert 2.0 == found['knhk_steps_total{step="completed"}']
    assert 1.0 == found['knhk_refused_total{reason="unauthenticated"}']
    assert found['knhk_store_seconds_count{operation="commit"}'] >= 4
    assert found['knhk_requests_total{operation="case.create",status="201"}'] == 2.0
    assert {"agenda", "audit", "outbox"} == {name.split('"')[1] for name in found if name.startswith("knhk_queue{")}
    for name in ("knhk_dead_letters", "knhk_dead_messages", "knhk_or_join_budget_exceeded_total", "process_open_fds"):
        assert found[name] >= 0


def test_custom_metrics_are_shown_for_all_tenants_together() -> None:
    """What a specification declares is shown with its workflow; tenants that have the same are added up, and not named."""
    with served() as service:
        for tenant, size in (("default", 5), ("acme", 50)):
            service.register(COUNTED, tenant=tenant)
            service.ask(
                "POST", "/cases", body={"spec_id": "order", "data": {"region": "eu", "size": size}}, tenant=tenant
            )
        found = figures(service)
        text = service.client.simulate_get("/metrics").text

    assert 2.0 == found['knhk_custom_orders_total{region="eu",workflow="order"}']
    assert 1.0 == found['knhk_custom_size_bucket{le="10.0",workflow="order"}']
    assert (2.0, 55.0) == tuple(found[f'knhk_custom_size_{each}{{workflow="order"}}'] for each in ("count", "sum"))
    assert "acme" not in text


def reading(spec_id: str, name: str, kind: str = "counter", **more: Any) -> MetricReading:
    """A metric with one series."""
    value = Distribution(count=1, total=1.0, buckets={1.0: 1}) if kind == "histogram" else 1.0
    given = {"labels": (), "bounds": (), "series": {(): value}, **more}
    return MetricReading(spec_id=spec_id, name=name, kind=kind, help="", **given)


def test_custom_metrics_that_do_not_fit_are_left_out() -> None:
    """A metric of another's name that is not like it, and those beyond the bound, are not shown, and are counted."""
    many = [reading("w", f"m{number}") for number in range(MOST_CUSTOM + 3)]
    found = list(_custom([*many, reading("x", "m0", "gauge"), reading("y", "m0"), reading("w", "m0")]))

    assert MOST_CUSTOM + 1 == len(found)
    assert 5.0 == found[-1].samples[0].value
    assert [("w", 2.0)] == [(each.labels["workflow"], each.value) for each in found[0].samples]


def test_labels_beyond_their_bound_are_other() -> None:
    """Names beyond the bound are added up as one."""
    assert {("a", "x"): 1, (OTHER, "x"): 5} == bounded({("c", "x"): 3, ("a", "x"): 1, ("b", "x"): 2}, most=1)


def test_breakers_and_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breakers have their state and handlers their attempts; of several tenants' the worst state counts."""
    (tmp_path / "handlers_of_metrics.py").write_text(
        "def register(engine):\n"
        "    engine.breaker('bank', minimum_calls=1)\n"
        "    engine.handler('pay')(lambda work: 1 / 0 if work.data.get('bad') else {})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = {
        "id": "pay",
        "tasks": [{"id": "pay", "handler": "pay", "breaker": "bank"}],
        "flows": [{"from": "start", "to": "pay"}, {"from": "pay", "to": "end"}],
    }
    with served(handlers="handlers_of_metrics") as service:
        for tenant, bad in (("default", False), ("acme", True)):
            service.register(spec, tenant=tenant)
            made = service.ask("POST", "/cases", body={"spec_id": "pay", "data": {"bad": bad}}, tenant=tenant).json
            service.ask("POST", f"/cases/{made['case_id']}/execute", tenant=tenant)
        service.made.census.walk()
        found = figures(service)

    assert 1.0 == found['knhk_attempts_total{handler="pay",outcome="completed"}']
    assert 1.0 == found['knhk_attempts_total{handler="pay",outcome="failed"}']
    assert (1.0, 0.0) == tuple(found[f'knhk_breaker{{breaker="bank",state="{each}"}}'] for each in ("open", "closed"))
    assert 1.0 == found["knhk_dead_letters"]


def test_calls_that_come_at_once_are_timed_as_one_and_counted_one_by_one() -> None:
    """Of the calls of a pipeline those that are stored are counted with their steps, and those that are refused as errors."""
    kept, found = MemoryStore(), Figures()
    with Engine(metered(kept, found)) as engine:
        engine.register(Specification.from_dict(ORDER))
        cases = [engine.create_case("order", start=True) for _ in range(3)]
        Engine(kept).case(cases[1].id).suspend()
        task = cases[0].enabled[0]
        outcomes = engine.pipeline([partial(each.start_task, task) for each in cases])
        said = found.text().decode()

    assert [None, ConcurrentUpdate, None] == [each.error and type(each.error) for each in outcomes]
    assert 'knhk_store_seconds_count{operation="commit_each"} 1.0' in said
    assert 'knhk_store_errors_total{error="ConcurrentUpdate",operation="commit_each"} 1.0' in said
    assert 'knhk_steps_total{step="started"} 2.0' in said


def test_a_store_that_fails_is_counted_and_the_census_goes_on() -> None:
    """A call that fails is counted by its error; a census that cannot read keeps what it knew."""

    class Failing(MemoryStore):
        broken = False

        def cases(self, **wanted: Any) -> Any:
            if self.broken:
                raise StoreUnavailable("gone")
            return super().cases(**wanted)

    store = Failing()
    with served(store=store) as service:
        service.register()
        service.case()
        service.made.census.walk()
        store.broken = True
        service.ask("GET", "/cases")
        with pytest.raises(StoreUnavailable):
            service.made.census.walk()
        found = figures(service)

    assert 1.0 == found['knhk_cases{state="running"}']
    assert 1.0 <= found['knhk_store_errors_total{error="StoreUnavailable",operation="cases"}']


def test_the_census_walks_page_by_page_and_ends_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between pages the census rests, and gives up where the service ends."""
    monkeypatch.setattr("knhk.server.census.PAGE", 1)
    with served() as service:
        service.register()
        for _ in range(3):
            service.case()
        census = Census(service.made.store, lambda: [], lambda: 7.0, lambda: 0)
        assert census.age is None
        rests: list[int] = []
        census.walk(lambda: bool(rests.append(1)) or len(rests) == 2)
        given_up = census.last
        census.walk(lambda: bool(rests.append(1)))

    assert given_up is None
    assert census.last is not None
    assert (3, 0.0, 8) == (census.last.cases["running"], census.age, len(rests))


def test_processes_that_share_a_directory_add_up_their_figures(tmp_path: Path) -> None:
    """With prometheus_client's directory, what is counted at one process is shown by the other too."""
    code = (
        "import sys; from knhk.server.figures import Figures; f = Figures(instance=sys.argv[1])\n"
        "f.steps.labels('fired').inc(2); f.store_seconds.labels('commit').observe(0.1)\n"
        "print(f.text().decode())"
    )
    texts = [
        subprocess.run(
            [sys.executable, "-c", code, name],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in ("one", "two")
    ]

    assert 'knhk_steps_total{step="fired"} 2.0' in texts[0]
    assert 'knhk_steps_total{step="fired"} 4.0' in texts[1]
    assert 'knhk_store_seconds_count{operation="commit"} 2.0' in texts[1]
    assert 'knhk_instance_info{instance="two"} 1.0' in texts[1]
