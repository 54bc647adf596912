"""Alerts and dashboard: what they ask for is what a served instance exports, by name, label and value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from knhk import errors
from knhk.server.rights import RIGHTS
from tests.deployment import DEPLOY, KUBERNETES, ROOT
from tests.served import served

ALERTS = DEPLOY / "compose" / "alerts.yaml"
DASHBOARD = KUBERNETES / "monitoring" / "dashboard.json"
OF_PROMETHEUS = {"job", "instance"}
"""Labels that Prometheus gives to everything it reads."""

POSSIBLE = {
    ("knhk_requests", "status"): {"503"},
    ("knhk_request_seconds", "operation"): set(RIGHTS),
    ("knhk_store_errors", "error"): set(dir(errors)),
}
"""Values of labels that come with what did not happen here."""

HANDLERS = """
def register(engine):
    engine.breaker("bank", minimum_calls=1)
    engine.handler("pay")(lambda work: 1 / 0)
"""
PAY: dict[str, Any] = {
    "id": "pay",
    "tasks": {"pay": {"handler": "pay", "breaker": "bank"}},
    "flows": [{"from": "start", "to": "pay"}, {"from": "pay", "to": "end"}],
}


class Series(NamedTuple):
    """What a name of `/metrics` is."""

    kind: str
    labels: dict[str, set[str]]


class Asked(NamedTuple):
    """A selector of a query: what it names, by which labels, and whether it looks at a range."""

    name: str
    matchers: list[tuple[str, str]]
    ranged: bool


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Series]:
    """Everything that a served instance exports, after something of each kind has happened."""
    modules = tmp_path_factory.mktemp("modules")
    (modules / "handlers_of_alerts.py").write_text(HANDLERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(modules))
        with served(handlers="handlers_of_alerts", otel_endpoint="http://127.0.0.1:4318") as service:
            service.register(PAY)
            service.ask("POST", f"/cases/{service.case(spec_id='pay')}/execute")
            service.ask("POST", "/patterns/1/execute", body={})
            service.ask("GET", "/cases/missing")
            service.ask("GET", "/cases", bearer="none")
            service.ask("POST", "/cases", "viewer", body={"spec_id": "pay"})
            service.made.census.walk()
            text = service.client.simulate_get("/metrics").text
    found: dict[str, Series] = {}
    for family in text_string_to_metric_families(text):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        for suffix in suffixes:
            found[family.name + suffix] = Series(family.type, {})
        for sample in family.samples:
            for label, value in sample.labels.items():
                if sample.name in found:
                    found[sample.name].labels.setdefault(label, set()).add(value)
    return found


def rules() -> list[dict[str, Any]]:
    """The rules, as Prometheus reads them."""
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard that show something."""
    return [each for each in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"] if each["type"] != "row"]


def queries() -> dict[str, str]:
    """Every query, by where it stands."""
    shown = {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "1m").replace("$job", "knhk")
        for panel in panels()
        for target in panel["targets"]
    }
    return {each["alert"]: each["expr"] for each in rules()} | shown


def selectors(query: str) -> Iterator[Asked]:
    """What a query selects; raises ValueError where it is none."""
    found: list[Asked] = []
    ranges: set[str] = set()

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.MatrixSelector):
            ranges.add(repr(node.vector_selector))
        elif isinstance(node, promql_parser.VectorSelector):
            matchers = [(each.name, each.value) for each in node.matchers.matchers]
            found.append(Asked(node.name, matchers, repr(node) in ranges))
        return True

    promql_parser.walk(promql_parser.parse(query), visit)
    assert found, query
    yield from found


def wrong(asked: Asked, exported: dict[str, Series]) -> Iterator[str]:
    """What is wrong with a selector, measured by what is exported."""
    if asked.name == "up":
        return
    series = exported.get(asked.name)
    if series is None:
        yield f"{asked.name} is not exported"
        return
    if asked.ranged and series.kind not in ("counter", "histogram"):
        yield f"{asked.name} is a {series.kind}: it has no rate"
    for label, pattern in asked.matchers:
        if label not in OF_PROMETHEUS | set(series.labels):
            yield f"{asked.name} has no label {label}"
        elif label not in OF_PROMETHEUS:
            values = series.labels[label] | POSSIBLE.get((asked.name.rpartition("_")[0], label), set())
            missing = [each for each in pattern.split("|") if not any(re.fullmatch(each, value) for value in values)]
            yield from (f"{asked.name}: {label} is never {each}" for each in missing)


@pytest.mark.parametrize(("where", "query"), queries().items(), ids=list(queries()))
def test_what_is_asked_for_is_exported(where: str, query: str, exported: dict[str, Series]) -> None:
    """A query is one, and every name, label and value in it is one that the service exports."""
    assert [] == [problem for each in selectors(query) for problem in wrong(each, exported)], where


def test_what_is_not_exported_is_found(exported: dict[str, Series]) -> None:
    """A query with a wrong name, kind, label or value is found to be wrong."""
    bad = {
        "rate(knhk_request_total[5m])": "knhk_request_total is not exported",
        "rate(knhk_cases[5m])": "knhk_cases is a gauge: it has no rate",
        'knhk_queue{name="agenda"}': "knhk_queue has no label name",
        'knhk_breaker{state="half_open"}': "knhk_breaker: state is never half_open",
    }

    assert list(bad.values()) == [
        each for query in bad for asked in selectors(query) for each in wrong(asked, exported)
    ]
    with pytest.raises(ValueError, match="parse error|unexpected|unknown|expected"):
        list(selectors("rate(knhk_cases["))


def test_labels_that_are_shown_are_there(exported: dict[str, Series]) -> None:
    """What an alert or a legend shows of a label is a label of what is asked for."""
    shown = [(each["expr"], text) for each in rules() for text in each["annotations"].values()]
    shown += [(target["expr"], target["legendFormat"]) for each in panels() for target in each["targets"]]
    for expression, text in shown:
        query = expression.replace("$__rate_interval", "1m")
        labels = {label for each in selectors(query) for label in exported.get(each.name, Series("", {})).labels}

        assert set(re.findall(r"\{\{\s*\$labels\.(\w+)|\{\{(\w+)\}\}", text)) <= {
            pair for each in labels | OF_PROMETHEUS for pair in ((each, ""), ("", each))
        }, text


def test_alerts_say_what_is_so_and_what_to_do() -> None:
    """Each alert has a severity and two sentences for whoever is woken, and the pages that it names are there."""
    found = rules()
    texts = [each["annotations"] for each in found]

    assert len(found) == len({each["alert"] for each in found})
    assert {"critical", "warning", "info"} == {each["labels"]["severity"] for each in found}
    assert all({"summary", "description"} == each.keys() and all(each.values()) for each in texts)
    pages = {page for each in texts for page in re.findall(r"docs/[\w/-]+\.md", each["description"])}
    assert pages
    assert [] == [page for page in pages if not (ROOT / page).is_file()]


def test_the_operator_has_the_same_rules() -> None:
    """The rules for the Prometheus operator are those of the file for Prometheus."""
    rule = yaml.safe_load((KUBERNETES / "monitoring" / "prometheusrule.yaml").read_text(encoding="utf-8"))

    assert yaml.safe_load(ALERTS.read_text(encoding="utf-8")) == rule["spec"]


def test_panels_have_their_place() -> None:
    """No two panels of the dashboard lie on each other or beyond its edge, none has another's number, all say their source."""
    everything = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    taken: dict[tuple[int, int], str] = {}
    for panel in everything["panels"]:
        at = panel["gridPos"]
        cells = [(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])]
        assert [] == [taken[cell] for cell in cells if cell in taken], panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= dict.fromkeys(cells, panel["title"])

    assert len(everything["panels"]) == len({each["id"] for each in everything["panels"]})
    assert ["datasource", "job"] == [each["name"] for each in everything["templating"]["list"]]
    assert {"${datasource}"} == {each["datasource"]["uid"] for each in panels()}
    assert {"${datasource}"} == {target["datasource"]["uid"] for each in panels() for target in each["targets"]}
