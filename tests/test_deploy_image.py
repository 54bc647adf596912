"""The image and the compose file: well-formed, of files that are there, and what they start with what they set works."""

from __future__ import annotations

import os
import re
import ssl
import stat
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
import yaml

from knhk.server.configuration import PREFIX, load
from tests.deployment import DEPLOY, ROOT, compose, dockerfile, image_environment, in_image, mounts
from tests.test_server_serving import Process

HEALTHCHECK = DEPLOY / "healthcheck.py"
SERVICES = ("knhk-1", "knhk-2")


def check_health(**environment: str) -> int:
    """Run the image's health check as the image would; returns its status."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    command = [sys.executable, str(HEALTHCHECK)]
    return subprocess.run(command, env={**clean, **environment}, capture_output=True, check=False).returncode


def test_the_dockerfile_is_as_it_should_be() -> None:
    """Images have a fixed tag and come from no named host, commands are in exec form, and nobody is root in the end."""
    words = {each.word for each in dockerfile()}
    bases = [each.text.split()[0] for each in dockerfile() if each.word == "FROM"]
    ran = " ".join(each.text for each in in_image("RUN"))

    assert ["python:3.11-slim-bookworm"] * 2 == bases
    assert words <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "LABEL", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL"} | {
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    assert ["10001:10001"] == [each.text for each in in_image("USER")]
    assert ["SIGTERM"] == [each.text for each in in_image("STOPSIGNAL")]
    assert [["knhk"], ["serve"]] == [in_image(word)[0].command for word in ("ENTRYPOINT", "CMD")]
    assert ["python", "/opt/knhk/healthcheck.py"] == in_image("HEALTHCHECK")[0].command
    assert [image_environment()["WORKFLOW_STATE_PATH"]] == in_image("VOLUME")[0].command
    assert [f"{image_environment()['WORKFLOW_API_PORT']} 9090"] == [each.text for each in in_image("EXPOSE")]
    assert not re.search(r"gcc|apt-get|pip", ran), "the image needs no compiler and no installer"


def test_what_the_image_is_made_of_is_there() -> None:
    """What is copied from here exists and is not left out of the context, and every extra is one of the package."""
    copied = [source for each in dockerfile() if each.word == "COPY" for source in each.text.split()[:-1]]
    sources = [each for each in copied if not each.startswith(("--from", "/"))]
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    extras = next(re.findall(r"\[([a-z,]+)\]", each.text) for each in dockerfile() if "pip wheel" in each.text)[-1]
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    assert [] == [each for each in sources if not (ROOT / each).exists()]
    assert sorted(sources) == sorted(kept)
    assert set() == set(extras.split(",")) - set(known)


def test_what_the_image_starts_answers_its_health_check(tmp_path: Path) -> None:
    """The entry command, with the image's environment, serves; the health check sees it, and sees that it has ended."""
    given = {name.removeprefix(PREFIX): text for name, text in image_environment().items() if name.startswith(PREFIX)}
    arguments = [*in_image("ENTRYPOINT")[0].command, *in_image("CMD")[0].command]
    served = Process(tmp_path / "s", **{**given, "STATE_PATH": str(tmp_path / "s"), "API_PORT": "0"})
    try:
        asked = {"WORKFLOW_API_HOST": given["API_HOST"], "WORKFLOW_API_PORT": str(served.port)}
        alive = check_health(**asked)
    finally:
        status = served.end()

    assert ["knhk", "serve"] == arguments
    assert served.process.args[-len(arguments) :] == arguments
    assert (0, 0, 1) == (alive, status, check_health(**asked))


class _Alive(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health/live" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def secure_port() -> Iterator[int]:
    """A port with TLS behind which the path of the live probe is answered."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("knhk.example.com").configure_cert(context)
    with HTTPServer(("127.0.0.1", 0), _Alive) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_the_health_check_with_tls(secure_port: int) -> None:
    """Where the instance has TLS its certificate may be of another name; where it wants certificates, the port has to do."""
    port = {"WORKFLOW_API_PORT": str(secure_port)}

    assert 0 == check_health(**port, WORKFLOW_TLS_CERT="tls.crt")
    assert 0 == check_health(**port, WORKFLOW_TLS_CERT="tls.crt", WORKFLOW_TLS_CLIENT_CA="clients.crt")
    assert 1 == check_health(**port)


def configuration(name: str) -> Any:
    """A file of YAML beside the compose file."""
    return yaml.safe_load((DEPLOY / "compose" / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of secrets that the script beside the compose file makes."""
    there = tmp_path_factory.mktemp("compose")
    script = there / "make-secrets"
    script.write_bytes((DEPLOY / "compose" / "make-secrets").read_bytes())
    subprocess.run(["sh", script], check=True, capture_output=True)
    return there / "secrets"


def test_secrets_are_made_once(secrets: Path) -> None:
    """Each secret of the compose file is made, is long and another than the rest, and a second run changes none."""
    files = {name: each["file"] for name, each in compose()["secrets"].items()}
    before = {each.name: each.read_text() for each in secrets.iterdir()}
    again = subprocess.run(["sh", secrets.parent / "make-secrets"], check=True, capture_output=True, text=True)

    assert {name: f"./compose/secrets/{name}" for name in before} == files
    assert f"[knhk]\npassword={before['postgres-password']}\n" == before["pg-service"]
    assert [64] * 4 == [len(text) for name, text in before.items() if name != "pg-service"]
    assert len(before) == len(set(before.values()))
    assert "" == again.stdout
    assert before == {each.name: each.read_text() for each in secrets.iterdir()}
    assert 0o700 == stat.S_IMODE(secrets.stat().st_mode)
    assert {0o444} == {stat.S_IMODE(each.stat().st_mode) for each in secrets.iterdir()}
    assert "/deploy/compose/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("name", SERVICES)
def test_the_configuration_of_compose_is_one(name: str, secrets: Path) -> None:
    """What an instance of the compose file is told can be used, without a warning, and makes it one of several."""
    given = {**image_environment(), **compose()["services"][name]["environment"]}
    there = {key: value.replace("/run/secrets/", f"{secrets}/") for key, value in given.items()}
    loaded = load(there)
    grace = float(str(compose()["services"][name]["stop_grace_period"]).removesuffix("s"))

    assert () == loaded.warnings
    assert loaded.settings.shares
    assert 9090 == loaded.settings.grpc_port
    assert name == loaded.settings.instance_id
    assert grace > loaded.settings.drain_timeout


def test_compose_names_what_there_is() -> None:
    """Files that are mounted exist, images have tags, and every port is this machine's own."""
    services = compose()["services"]

    assert {*SERVICES, "postgres", "otel-collector", "prometheus", "grafana"} == set(services)
    assert [] == [path for each in services.values() for path, _ in mounts(each) if not path.exists()]
    assert [] == [
        name for name, each in services.items() if not re.fullmatch(r"[a-z/-]+:v?[0-9][\w.-]*", each["image"])
    ]
    assert all(port.startswith("127.0.0.1:") for each in services.values() for port in each.get("ports", ()))
    assert compose()["services"]["knhk-1"]["build"] == {"context": "..", "dockerfile": "deploy/Dockerfile"}


def test_the_services_of_compose_find_each_other() -> None:
    """Who is named in an address, or in a path inside a container, is there under that name and port."""
    services = compose()["services"]
    environment = services["knhk-1"]["environment"]
    at = {name: {target for _, target in mounts(each)} for name, each in services.items()}
    scraped = configuration("prometheus.yaml")
    source = configuration("grafana/datasources/prometheus.yaml")["datasources"][0]
    folder = configuration("grafana/dashboards/knhk.yaml")["providers"][0]["options"]["path"]
    spans = configuration("otel-collector.yaml")
    receiver = spans["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    store, collector, figures = (
        urlsplit(each)
        for each in (environment["WORKFLOW_STATE_PATH"], environment["WORKFLOW_OTEL_ENDPOINT"], source["url"])
    )

    assert ("postgres", "otel-collector", "prometheus") == (store.hostname, collector.hostname, figures.hostname)
    assert f"0.0.0.0:{collector.port}" == receiver
    assert [] == [
        name
        for pipeline in spans["service"]["pipelines"].values()
        for kind, names in pipeline.items()
        for name in names
        if name not in spans[kind]
    ]
    assert f"127.0.0.1:{figures.port}:{figures.port}" in services["prometheus"]["ports"]
    assert [f"{name}:{image_environment()['WORKFLOW_API_PORT']}" for name in SERVICES] == scraped["scrape_configs"][0][
        "static_configs"
    ][0]["targets"]
    assert set(scraped["rule_files"]) <= at["prometheus"]
    assert "--config.file=/etc/prometheus/prometheus.yaml" in services["prometheus"]["command"]
    assert "/etc/prometheus/prometheus.yaml" in at["prometheus"]
    assert ["--config=/etc/otelcol/knhk.yaml"] == services["otel-collector"]["command"]
    assert {"/etc/otelcol/knhk.yaml"} == at["otel-collector"]
    assert f"{folder}/knhk.json" in at["grafana"]
    assert image_environment()["PYTHONPATH"] in at["knhk-1"]
