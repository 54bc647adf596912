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
from tests.deployment import DEPLOY, KUBERNETES, ROOT, compose
from tests.kustomize import build, documents
from tests.served import token
from tests.test_docs import fences
from tests.test_server_serving import Process, process

HOW_TO = ROOT / "docs" / "how-to"
PAGES = [HOW_TO / "compose.md", HOW_TO / "kubernetes.md"]
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


@pytest.mark.parametrize(
    ("name", "data"),
    [("compose", {"amount": 42, "charged": 42, "parcel": "A-1"}), ("kubernetes", {"amount": 42, "parcel": "A-1"})],
)
def test_the_first_case_of_a_page(name: str, data: dict[str, Any], running: Process) -> None:
    """What a page lets its reader ask, one command after the other, leads from a workflow to a case that is completed."""
    asked = [line for line in lines(HOW_TO / f"{name}.md") if "curl " in line and "/instances" not in line]
    at = [re.sub(r"localhost:808[01]", f"127.0.0.1:{running.port}", line) for line in asked]
    item = next(number for number, line in enumerate(at) if line.startswith("export ITEM="))
    given = {**os.environ, "TOKEN": token(), "PORT": str(running.port)}
    # A reader is slower than the handler: what is offered is asked for once it is.
    script = "\n".join(f"{line}; echo" for line in [*at[:item], WAIT, *at[item:]])
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, env=given, capture_output=True, text=True, check=True)
    answers: list[Any] = [json.loads(line) for line in done.stdout.splitlines() if line]

    assert [] == [each for each in answers if "urn:knhk:problem" in str(each)]
    assert ("completed", data) == (answers[-1]["state"], answers[-1]["data"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page: Path) -> None:
    """Files, variables, services and commands of `knhk` that a page names exist."""
    text = page.read_text(encoding="utf-8")
    files = set(re.findall(r"\bdeploy/[\w./-]+\w", text))
    variables = set(re.findall(r"\bWORKFLOW_[A-Z0-9_]+[A-Z0-9]", text))
    commands = set(re.findall(r"(?:-- |knhk-1 |exec knhk |['`]|\$\()knhk ([a-z]+)", text))
    made = {f"deploy/compose/secrets/{name}" for name in compose()["secrets"]} | {"deploy/compose/secrets"}

    assert files
    assert [] == sorted(each for each in files - made if not (ROOT / each).exists())
    assert set() == variables - {variable(each.name) for each in attrs.fields(Configuration)}
    assert commands
    assert set() == commands - set(knhk.commands)


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
    assert ports == set(re.findall(r"localhost:(\d+)`", text))


def test_what_the_page_on_kubernetes_names_is_there() -> None:
    """Resources, keys of the secret, and the times and numbers that the page tells are those of the manifests."""
    page = HOW_TO / "kubernetes.md"
    told, text = "\n".join(lines(page)), page.read_text(encoding="utf-8")
    resources = [each for name in ("embedded", "shared", "monitoring") for each in build(KUBERNETES / name)]
    examples = [each for path in KUBERNETES.glob("*.example.yaml") for each in documents(path)]
    there = {f"{each['kind'].lower()}/{each['metadata']['name']}" for each in (*resources, *examples)}
    (embedded,) = (each for each in build(KUBERNETES / "embedded") if each["kind"] == "StatefulSet")
    (secret,) = (each for each in examples if each["kind"] == "Secret")
    pod = embedded["spec"]["template"]["spec"]
    waits = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1]

    assert set(re.findall(r"\b(?:statefulset|service|pod)/[\w-]+", told)) - {"pod/knhk-0"} <= there
    assert secret["stringData"].keys() == set(re.findall(r"--from-literal=([\w-]+)=", told))
    assert {"knhk"} == set(re.findall(r"--namespace (\S+)", told))
    assert {pod["containers"][0]["image"]} == set(re.findall(r"registry\.example\.com/\S+:[\w.]+", told))
    assert f"`preStop`, which waits for {waits} seconds" in text
    assert f"`terminationGracePeriodSeconds`, {pod['terminationGracePeriodSeconds']}," in text
    assert f"`WORKFLOW_DRAIN_TIMEOUT`, {Configuration().drain_timeout:g} seconds" in text
    (rules,) = (each["spec"]["groups"][0]["rules"] for each in resources if each["kind"] == "PrometheusRule")
    assert f"{len(rules)} alerts" in text
    (scaler,) = (each["spec"] for each in resources if each["kind"] == "HorizontalPodAutoscaler")
    assert (3, 6, "600m") == (
        scaler["minReplicas"],
        scaler["maxReplicas"],
        scaler["metrics"][0]["resource"]["target"]["averageValue"],
    )


def test_the_pod_that_holds_the_volume() -> None:
    """It holds the volume of `embedded`, is of the same image, and has no more rights than an instance."""
    (pod,) = documents(KUBERNETES / "volume.example.yaml")
    (embedded,) = (each for each in build(KUBERNETES / "embedded") if each["kind"] == "StatefulSet")
    template = embedded["spec"]["template"]
    (claim,) = embedded["spec"]["volumeClaimTemplates"]
    there, here = template["spec"]["containers"][0], pod["spec"]["containers"][0]
    mounts = {each["name"]: each["mountPath"] for each in there["volumeMounts"]}

    assert f"{claim['metadata']['name']}-knhk-0" == pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert (there["image"], there["securityContext"]) == (here["image"], here["securityContext"])
    assert pod["spec"]["securityContext"].items() <= template["spec"]["securityContext"].items()
    assert mounts["state"] == here["volumeMounts"][0]["mountPath"]
    assert "labels" not in pod["metadata"], "no service may find it"
