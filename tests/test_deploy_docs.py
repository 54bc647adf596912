"""The pages on compose and Kubernetes: what can be run is run against a served instance, what cannot names what there is."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from knhk.cli.app import knhk
from knhk.server.configuration import Configuration, variable
from tests.deployment import DEPLOY, ROOT, compose
from tests.served import token
from tests.test_docs import fences
from tests.test_server_serving import Process, process

HOW_TO = ROOT / "docs" / "how-to"
PAGES = [HOW_TO / "compose.md"]
WAIT = """for _ in $(seq 300); do
  curl -s "http://127.0.0.1:$PORT/api/v1/workitems" -H "Authorization: Bearer $TOKEN" | grep -q '"ship"' && break
  sleep 0.1
done"""


def lines(page: Path) -> list[str]:
    """The commands that a page shows, each a line."""
    joined = (fence.text.replace("\\\n", " ") for fence in fences(page) if fence.kind == "sh")
    return [line for text in joined for line in text.splitlines()]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """An instance with the handlers of the example."""
    path = os.pathsep.join([str(DEPLOY / "compose" / "handlers"), *sys.path])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        with process(tmp_path_factory.mktemp("state") / "s", HANDLERS="orders", SHARED="true") as made:
            yield made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_first_case_of_a_page(page: Path, running: Process) -> None:
    """What a page lets its reader ask, one command after the other, leads from a workflow to a case that is completed."""
    asked = [line for line in lines(page) if "curl " in line and "/instances" not in line]
    at = [re.sub(r"localhost:808[01]", f"127.0.0.1:{running.port}", line) for line in asked]
    item = next(number for number, line in enumerate(at) if line.startswith("export ITEM="))
    given = {**os.environ, "TOKEN": token(), "PORT": str(running.port)}
    # A reader is slower than the handler: what is offered is asked for once it is.
    script = "\n".join(f"{line}; echo" for line in [*at[:item], WAIT, *at[item:]])
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, env=given, capture_output=True, text=True, check=True)
    answers: list[Any] = [json.loads(line) for line in done.stdout.splitlines() if line]

    assert [] == [each for each in answers if "urn:knhk:problem" in str(each)]
    assert "order" == answers[0]["spec_id"]
    assert "completed" == answers[-1]["state"]
    assert {"amount": 42, "charged": 42, "parcel": "A-1"} == answers[-1]["data"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page: Path) -> None:
    """Files, variables, services and commands of `knhk` that a page names exist."""
    text = page.read_text(encoding="utf-8")
    files = set(re.findall(r"\bdeploy/[\w./-]+\w", text))
    variables = set(re.findall(r"\bWORKFLOW_[A-Z0-9_]+[A-Z0-9]", text))
    commands = set(re.findall(r"\bknhk (serve|token|config|doctor|store|audit|instances|[a-z]+ --)", text))
    made = {f"deploy/compose/secrets/{name}" for name in compose()["secrets"]} | {"deploy/compose/secrets"}

    assert files
    assert [] == sorted(each for each in files - made if not (ROOT / each).exists())
    assert set() == variables - {variable(each.name) for each in attrs.fields(Configuration)}
    assert set() == {each.split()[0] for each in commands} - set(knhk.commands)


def test_the_services_that_the_page_on_compose_names_are_there() -> None:
    """Every service that a command names is one of the compose file, and every port of this machine that the page shows."""
    services = compose()["services"]
    text = (HOW_TO / "compose.md").read_text(encoding="utf-8")
    words = [shlex.split(line.replace("$(", "").replace(")", "")) for line in lines(HOW_TO / "compose.md")]
    named = {
        word.partition(":")[0]
        for command in words
        if command[:2] == ["docker", "compose"]
        for word in command[3:]
        if re.match(r"(knhk-\d|postgres|otel-collector|prometheus|grafana)(:|$)", word)
    }
    ports = {port.split(":")[1] for each in services.values() for port in each.get("ports", ())}

    assert {"knhk-1", "knhk-2", "postgres", "otel-collector"} == named
    assert named <= set(services)
    assert ports == set(re.findall(r"http://localhost:(\d+)`", text))
