"""What a page on deployment says can be so: its variables, its YAML, and what each of the 13 that were promised changes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import pytest
import yaml

from knhk.server.configuration import PREFIX, ConfigurationError, load
from knhk.server.serving import listening
from tests.served import SECRET, Served, served
from tests.servers import free_port
from tests.test_deploy_kubernetes import VERSIONS, is_route, problems
from tests.test_server_serving import GUIDE, ROOT

PAGES = [ROOT / "docs" / "how-to" / f"{name}.md" for name in ("deploy", "several-instances", "kubernetes", "observe")]
PAGES += [GUIDE] if GUIDE.is_file() else []

Look = Callable[[Served], Any]


class Change(NamedTuple):
    """A variable, two of its values with what is seen with each, and where one looks."""

    name: str
    look: Look
    first: tuple[str, Any]
    second: tuple[str, Any]
    beside: dict[str, str] = {}


def component(name: str) -> Look:
    """Look whether a component is told of."""
    return lambda service: name in service.client.simulate_get("/health/components").json["components"]


def label(name: str) -> Look:
    """Look at a label of the figure that says which instance it is."""

    def look(service: Served) -> str:
        text = service.client.simulate_get("/metrics").text
        return re.findall(rf'^knhk_instance_info{{.*{name}="([^"]*)"', text, re.MULTILINE)[0]

    return look


def status(path: str, **more: Any) -> Look:
    """Look at the status of an answer, the second of two."""

    def look(service: Served) -> int:
        service.ask("GET", path, **more)
        return service.ask("GET", path, **more).status_code

    return look


def stores(_: Served) -> list[str]:
    """Look which directories beside us have a store."""
    return sorted(each.parent.name for each in Path().glob("*/knhk.db"))


def address(part: int) -> Look:
    """Look at the host, or the port, that is listened on."""

    def look(service: Served) -> Any:
        with contextlib.closing(listening(service.made.settings)) as opened:
            return opened.getsockname()[part]

    return look


def is_up(_: Served) -> str:
    """That it was made at all."""
    return "serves"


PORTS = [str(free_port()) for _ in range(2)]
CHANGES = [
    Change("STATE_PATH", stores, ("one", ["one"]), ("two", ["two"])),
    Change("API_HOST", address(0), ("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "127.0.0.2"), {"API_PORT": "0"}),
    Change("API_PORT", address(1), (PORTS[0], int(PORTS[0])), (PORTS[1], int(PORTS[1]))),
    Change("FORTUNE5_ENABLED", is_up, ("false", "serves"), ("true", f"{PREFIX}AUTH_ENABELD"), {"AUTH_ENABELD": "true"}),
    Change("OTEL_ENDPOINT", component("exporter"), ("", False), ("http://127.0.0.1:4317", True)),
    Change("AUDIT_ENABLED", status("/audit"), ("true", 200), ("false", 409)),
    Change("RATE_LIMIT_ENABLED", status("/cases"), ("true", 429), ("false", 200), {"RATE_LIMIT": "0.001"}),
    Change("AUTH_ENABLED", status("/cases", bearer="none"), ("true", 401), ("false", 200)),
    Change("SPIFFE_ENABLED", is_up, ("false", "serves"), ("true", f"{PREFIX}SPIFFE_ENABLED")),
    Change("TRUST_DOMAIN", component("workload-identity"), ("", False), ("spiffe://knhk.org", True)),
    Change("MULTI_REGION", is_up, ("false", "serves"), ("true", f"{PREFIX}MULTI_REGION")),
    Change("REGION", label("region"), ("us-east-1", "us-east-1"), ("eu-west-1", "eu-west-1")),
    Change("INSTANCE_ID", label("instance"), ("engine-1", "engine-1"), ("engine-2", "engine-2")),
]


def seen(environment: dict[str, str], look: Look) -> Any:
    """What is seen of a service with this environment; where it is refused, the variable that is named."""
    given = {"STATE_PATH": "memory:", "JWT_SECRET": SECRET, **environment}
    try:
        settings = load({f"{PREFIX}{name}": value for name, value in given.items()}).settings
    except ConfigurationError as error:
        return re.match(r"\w+", error.findings[0])[0]  # type: ignore[index]
    with served(**attrs.asdict(settings, recurse=False)) as service:
        return look(service)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_a_variable_changes_what_is_seen(change: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With another value of a variable something else is seen of the service."""
    for number, (value, expected) in enumerate((change.first, change.second)):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))

        assert expected == seen({**change.beside, change.name: value}, change.look)


def blocks(page: Path, *kinds: str) -> list[str]:
    """The fenced blocks of a page that are of these kinds."""
    pattern = rf"^```(?:{'|'.join(kinds)})\n(.*?)^```"
    return re.findall(pattern, page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def assigned(page: Path) -> dict[str, str]:
    """The variables that a page's shell blocks set."""
    text = "\n".join(blocks(page, "bash", "sh", "console"))
    found = re.findall(rf"(?:^|\s)({PREFIX}[A-Z0-9_]+)=(\"[^\"]*\"|'[^']*'|[^\s#]*)", text)
    return {name: value.strip("\"'") for name, value in found}


def unknown(given: Iterable[str]) -> list[str]:
    """Which of these are no variables of the service."""
    known = {name for name, _, _ in load({}).table()}
    return [name for name in given if name not in known]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_variables_of_a_page_are_known(page: Path) -> None:
    """Every variable that a page sets is one of the service, and those of the guide are the 13 that were looked at above."""
    given = assigned(page)
    promised = {f"{PREFIX}{each.name}" for each in CHANGES}

    assert [] == unknown(given)
    assert 13 == len(CHANGES)
    assert page != GUIDE or promised == given.keys()
    assert page != GUIDE or load({**given, f"{PREFIX}JWT_SECRET": SECRET}).settings.fortune5_enabled


def not_routes(paths: list[str]) -> list[str]:
    """Which of these paths the service knows nothing of."""
    if not paths:
        return []
    with served() as service:
        return [path for path in paths if not is_route(service, path)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_yaml_of_a_page_is_so(page: Path) -> None:
    """Resources of Kubernetes on a page are valid, their variables known, and their probes ask for what is a route."""
    found = [each for text in blocks(page, "yaml") for each in yaml.safe_load_all(text) if "apiVersion" in each]
    containers = [
        each
        for resource in found
        for each in resource["spec"].get("template", {}).get("spec", {}).get("containers", ())
    ]
    names = {each["name"] for container in containers for each in container["env"]}
    probes = [value["httpGet"]["path"] for each in containers for name, value in each.items() if name.endswith("Probe")]

    assert [] == [problem for each in found for version in VERSIONS for problem in problems(each, version)]
    assert [] == unknown(names)
    assert [] == not_routes(probes)
    assert page != GUIDE or (2, 2) == (len(found), len(probes))
