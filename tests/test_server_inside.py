"""Serving from the inside: the same as a process of its own does, in this one, where every line can be seen to run."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import logging
import os
import resource
import signal
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from waitress.adjustments import Adjustments

from knhk.server.configuration import Algorithm, Configuration, ConfigurationError
from knhk.server.framing import Parser
from knhk.server.observing import LOG, log_as_json
from knhk.server.secure import SecureServer, _context
from knhk.server.serving import Server, make
from tests.served import ORDER, SECRET, token


@pytest.fixture
def signals() -> Iterator[None]:
    """Leave the handlers of signals as they were."""
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.usefixtures("signals")
def test_from_the_start_to_the_end(tmp_path: Path) -> None:
    """A server is ready, answers, and at SIGTERM ends with nothing left open."""
    settings = Configuration(state_path=str(tmp_path), api_port=0, jwt_secret=SECRET, drain_timeout=2.0)
    server = Server(make(settings))
    answers: list[tuple[int, Any]] = []

    def ask(port: int) -> None:
        for method, path, body in (("GET", "/health/ready", None), ("POST", "/api/v1/workflows", {"spec": ORDER})):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request(
                method,
                path,
                json.dumps(body),
                {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            answers.append((answer.status, json.loads(answer.read())))
            connection.close()
        os.kill(os.getpid(), signal.SIGTERM)

    asking: list[threading.Thread] = []

    def ready(port: int) -> None:
        asking.append(threading.Thread(target=ask, args=(port,)))
        asking[0].start()

    server.run(ready)
    asking[0].join()

    assert [200, 201] == [status for status, _ in answers]
    assert server._made.health.draining
    assert not server._made.background.served


@pytest.mark.usefixtures("signals")
def test_more_files_than_select_looks_at(tmp_path: Path) -> None:
    """A process with more than 1,024 open files answers as ever."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = 4_096 if hard == resource.RLIM_INFINITY else min(hard, 4_096)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    server = Server(make(Configuration(state_path=str(tmp_path), api_port=0, jwt_secret=SECRET, drain_timeout=1.0)))
    answers: list[int] = []

    def ask(port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError):
            connection.request("GET", "/health/live")
            answers.append(connection.getresponse().status)
        connection.close()
        os.kill(os.getpid(), signal.SIGTERM)

    with contextlib.ExitStack() as opened:
        for _ in range(min(1_100, allowed - 300)):
            opened.enter_context(open(os.devnull, "rb"))
        asking: list[threading.Thread] = []

        def ready(port: int) -> None:
            asking.append(threading.Thread(target=ask, args=(port,)))
            asking[0].start()

        server.run(ready)
        asking[0].join()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert [200] == answers


def test_address_that_cannot_be(tmp_path: Path) -> None:
    """An address that is not ours is refused by name."""
    made = make(Configuration(state_path=str(tmp_path), api_host="192.0.2.1", jwt_secret=SECRET))

    with pytest.raises(ConfigurationError, match="WORKFLOW_API_HOST"):
        Server(made)
    made.close()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", None),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None),
    ],
)
def test_what_a_parser_refuses(sent: bytes, code: int | None) -> None:
    """What can be framed in two ways is refused with a problem, and what cannot is read."""
    parser = Parser(Adjustments(max_request_body_size=1_000_000))
    rest = sent
    while rest and not parser.completed:
        rest = rest[parser.received(rest) :]

    assert parser.completed
    assert code == (None if parser.error is None else parser.error.code)
    if code is not None:
        status, headers, body = parser.error.to_response()
        assert ("Content-Type", "application/problem+json") in headers
        assert code == json.loads(body)["status"] == int(status.split()[0])


def test_log_is_json() -> None:
    """A line of the log is one JSON object, whatever is in it, with what is said of the instance."""
    logger, stream = logging.getLogger("knhk"), io.StringIO()
    before = logger.handlers[:], logger.level, logger.propagate
    try:
        log_as_json("info", stream, instance="one", region="")
        LOG.info("a\nb\x1b[31m", extra={"case_id": "c"})
    finally:
        logger.handlers[:], logger.propagate = before[0], before[2]
        logger.setLevel(before[1])

    (line,) = stream.getvalue().splitlines()
    tree = json.loads(line)
    assert ("a\nb\x1b[31m", "c", "one") == (tree["message"], tree["case_id"], tree["instance"])
    assert "region" not in tree
    assert "\x1b" not in line


def test_public_keys_need_one(tmp_path: Path) -> None:
    """An algorithm of public keys without a key, or with a file that is none, is refused by name."""
    (tmp_path / "pem").write_text("nothing")

    with pytest.raises(ConfigurationError, match="WORKFLOW_JWT_PUBLIC_KEY_FILE"):
        make(Configuration(state_path="memory:", jwt_algorithm=Algorithm.RS256))
    with pytest.raises(ConfigurationError, match="WORKFLOW_JWT_PUBLIC_KEY_FILE"):
        make(
            Configuration(
                state_path="memory:", jwt_algorithm=Algorithm.RS256, jwt_public_key_file=str(tmp_path / "pem")
            )
        )


def test_what_is_asked_of_the_secure_server(tmp_path: Path) -> None:
    """With a certificate the server is told threads, versions and whom clients must be known to; what serves is made in its worker."""
    authority = trustme.CA()
    server = authority.issue_cert("localhost")
    server.private_key_pem.write_to_path(tmp_path / "key.pem")
    server.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    files = {
        "tls_cert": str(tmp_path / "cert.pem"),
        "tls_key": str(tmp_path / "key.pem"),
        "tls_client_ca": str(tmp_path / "ca.pem"),
    }
    settings = Configuration(state_path="memory:", api_host="::1", jwt_secret=SECRET, **files)

    made = SecureServer(settings, lambda _: None)

    assert (["[::1]:8080"], ssl.CERT_REQUIRED, 16) == (made.cfg.bind, made.cfg.cert_reqs, made.cfg.threads)
    assert ssl.TLSVersion.TLSv1_2 == _context(None, lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).minimum_version
    made.close()
    assert callable(made.load())
    made.close()
    for name in files:
        (tmp_path / "none").write_text("nothing")
        with pytest.raises(ConfigurationError, match=f"WORKFLOW_{name.upper()}"):
            SecureServer(Configuration(state_path="memory:", **{**files, name: str(tmp_path / "none")}), lambda _: None)
