"""TLS: certificates of the server and of clients, old versions refused, HTTP/2, an end in order."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.served import ORDER, token
from tests.test_server_serving import Process, process


class Files:
    """Certificates in files."""

    def __init__(self, directory: Path) -> None:
        self.authority = trustme.CA()
        self.clients = trustme.CA()
        server = self.authority.issue_cert("127.0.0.1", "localhost")
        server.private_key_pem.write_to_path(directory / "key.pem")
        server.cert_chain_pems[0].write_to_path(directory / "cert.pem")
        self.clients.cert_pem.write_to_path(directory / "clients.pem")
        self.directory = directory
        self.environment = {"TLS_CERT": str(directory / "cert.pem"), "TLS_KEY": str(directory / "key.pem")}

    def context(self, authority: trustme.CA | None = None) -> ssl.SSLContext:
        """What a client trusts, and with an authority his own certificate."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if authority is not None:
            authority.issue_cert("client@example.org").configure_cert(context)
        return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Certificates."""
    return Files(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def running(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A service that asks every client for a certificate."""
    state = tmp_path_factory.mktemp("state") / "s"
    with process(
        state, **files.environment, TLS_CLIENT_CA=str(files.directory / "clients.pem"), DRAIN_TIMEOUT="5"
    ) as made:
        yield made


def ask(made: Process, path: str, context: ssl.SSLContext, body: Any = None) -> Any:
    """Ask over TLS."""
    request = urllib.request.Request(
        f"https://127.0.0.1:{made.port}{path}",
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, context=context, timeout=20) as answer:
        return json.loads(answer.read())


def test_mutual_tls(files: Files, running: Process) -> None:
    """Whoever has a certificate of the right authority, and a token, is served; nobody else is."""
    good = files.context(files.clients)

    assert {"ready": True} == ask(running, "/health/ready", good)
    assert "order" == ask(running, "/api/v1/workflows", good, {"spec": ORDER})["spec_id"]
    for other in (files.context(), files.context(trustme.CA()), files.context(files.authority)):
        with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
            ask(running, "/health/live", other)


@pytest.mark.filterwarnings("ignore:.*TLSv1_1 is deprecated")
def test_old_versions_are_refused(files: Files, running: Process) -> None:
    """TLS 1.1 is not spoken, 1.2 is."""
    for version, good in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_1, False)):
        context = files.context(files.clients)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = version
        if good:
            assert ask(running, "/health/live", context)
        else:
            with pytest.raises((ssl.SSLError, urllib.error.URLError)):
                ask(running, "/health/live", context)


def test_http2(files: Files, running: Process) -> None:
    """A client that speaks HTTP/2 is spoken to in it."""
    context = files.context(files.clients)
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            assert "h2" == secure.selected_alpn_protocol()


def test_end_in_order(files: Files, tmp_path: Path) -> None:
    """At SIGTERM the exit is 0, and what was acknowledged is there at the next start."""
    with process(tmp_path / "s", **files.environment, DRAIN_TIMEOUT="5") as made:
        ask(made, "/api/v1/workflows", files.context(), {"spec": ORDER})
        case = ask(made, "/api/v1/cases", files.context(), {"spec_id": "order"})["case_id"]
        assert 0 == made.end()
    with process(tmp_path / "s", DRAIN_TIMEOUT="5") as made:
        assert 200 == made.ask("GET", f"/api/v1/cases/{case}")[0]
        assert made.ask("GET", "/api/v1/audit/verify")[1]["intact"]


@pytest.mark.parametrize("name", ["TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA"])
def test_file_that_is_none(files: Files, name: str, tmp_path: Path) -> None:
    """A file that is no certificate, or no key, refuses the start by name."""
    (tmp_path / "pem").write_text("nothing")
    given = {**files.environment, "STATE_PATH": str(tmp_path / "s"), name: str(tmp_path / "pem")}
    done = subprocess.run(
        [sys.executable, "-m", "knhk", "serve"],
        env={f"WORKFLOW_{key}": value for key, value in given.items()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (2, True) == (done.returncode, f"WORKFLOW_{name}" in done.stderr), done.stderr
