"""Serving: a process with a socket, asked as users ask it, ended as machines end it, killed as machines kill it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from waitress.adjustments import Adjustments

from knhk.server import framing
from knhk.server.chain import verify
from knhk.server.configuration import Configuration
from knhk.server.framing import Parser
from knhk.server.serving import AUDIT_KEY_FILE, make
from tests.served import ORDER, SECRET, token

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT.parent / "shared" / "deployment-guide.md"

HIDDEN = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


class Process:
    """A served instance in a process of its own."""

    def __init__(self, state: Path, *, arguments: Sequence[str] = (), **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_")}
        given = {
            "STATE_PATH": str(state),
            "API_PORT": "0",
            "JWT_SECRET": SECRET,
            "RATE_LIMIT": "1000000",
            "DURABILITY": "off",
            **environment,
        }
        self.log = open(state.with_suffix(".log"), "w+b")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "knhk", "serve", *arguments],
            env={**clean, **{f"WORKFLOW_{name}": value for name, value in given.items()}},
            stderr=self.log,
        )
        self.port = self._port()

    def _port(self) -> int:
        end = time.monotonic() + 40
        while time.monotonic() < end and self.process.poll() is None:
            match = re.search(r"serving https?://\S+:(\d+)/", self.text())
            if match is not None:
                return int(match[1])
            time.sleep(0.05)
        raise AssertionError(self.text())

    def text(self) -> str:
        """What it has written so far."""
        return Path(self.log.name).read_text(encoding="utf-8")

    def ask(self, method: str, path: str, body: Any = None, *, bearer: str | None = None) -> tuple[int, Any]:
        """Ask once, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {bearer or token()}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text[:1] in (b"{", b"[") else text
        finally:
            connection.close()

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        status = self.process.wait(60)
        self.log.close()
        return status


@contextlib.contextmanager
def process(state: Path, *, arguments: Sequence[str] = (), **environment: str) -> Iterator[Process]:
    """Serve, and end it afterwards."""
    made = Process(state, arguments=arguments, **environment)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A served instance for the tests that leave it as it is."""
    with process(tmp_path_factory.mktemp("state") / "s") as made:
        assert 201 == made.ask("POST", "/api/v1/workflows", {"spec": ORDER})[0]
        yield made


def test_start_tells_what_is_needed(tmp_path: Path) -> None:
    """The first start without a key makes one, and tells where it is, how to get a token, and where to look."""
    with process(tmp_path / "s", JWT_SECRET="") as made:
        told = made.text()
        assert "knhk token --role" in told
        assert "/swagger" in told
        assert "durability off" in told
        environment = {**os.environ, "WORKFLOW_STATE_PATH": str(tmp_path / "s")}
        bearer = subprocess.run(
            [sys.executable, "-m", "knhk", "token", "--role", "viewer"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        assert 200 == made.ask("GET", "/api/v1/cases", bearer=bearer)[0]
        assert 0 == made.end()
        assert bearer not in made.process.args


def test_logs_are_lines_of_json(tmp_path: Path) -> None:
    """Every call is one line of JSON with its names, no token is in it, and nothing that a caller sends breaks a line."""
    bearer = token("evil\x7f".strip("\x7f") + "-ann")
    with process(tmp_path / "s", INSTANCE_ID="engine-1", REGION="us-east-1") as made:
        made.ask("POST", "/api/v1/workflows", {"spec": ORDER}, bearer=bearer)
        _, case = made.ask("POST", "/api/v1/cases", {"spec_id": "order"}, bearer=bearer)
        made.ask("GET", f"/api/v1/cases/{case['case_id']}", bearer=bearer)
        made.ask("POST", "/api/v1/patterns/1/execute", {}, bearer=bearer)
        made.ask("GET", "/api/v1/cases/%1b%5b31m%0d%0a%7b%22level%22:1%7d", bearer=bearer)
        made.ask("GET", f"/api/v1/cases?token={bearer}", bearer=bearer)
        assert 0 == made.end()
        lines = [json.loads(line) for line in made.text().splitlines() if line.startswith("{")]

    calls = [line for line in lines if line["message"] == "call"]
    assert 6 == len(calls)
    assert all({"operation", "status", "duration_ms", "trace_id", "time"} <= line.keys() for line in calls)
    assert {("engine-1", "us-east-1")} == {(line["instance"], line["region"]) for line in calls}
    assert case["case_id"] in [line.get("case_id") for line in calls]
    assert 1 in [line.get("pattern_id") for line in calls]
    assert bearer not in made.text() if not made.log.closed else bearer not in json.dumps(lines)
    assert "\x1b" not in json.dumps(lines, ensure_ascii=False).replace("\\u001b", "")


@pytest.mark.parametrize("level", ["error", "info"])
def test_log_level(tmp_path: Path, level: str) -> None:
    """The level of the log is as configured."""
    with process(tmp_path / "s", LOG_LEVEL=level) as made:
        made.ask("GET", "/api/v1/cases")
        assert 0 == made.end()
        text = (tmp_path / "s.log").read_text()

    assert ("duration_ms" in text) == (level == "info")


def test_address_that_is_taken(running: Process, tmp_path: Path) -> None:
    """A port that is taken is refused with its variables."""
    environment = {**os.environ, "WORKFLOW_STATE_PATH": str(tmp_path), "WORKFLOW_API_PORT": str(running.port)}
    done = subprocess.run(
        [sys.executable, "-m", "knhk", "serve"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 2 == done.returncode
    assert "WORKFLOW_API_PORT" in done.stderr


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /api/v1/cases HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /health/live HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /api/v1/cases HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /api/v1/cases HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/cases HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST /api/v1/cases HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"POST /api/v1/cases HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/2.0\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health HTTP/1.1\nHost: x\n\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\rY: b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n: a\r\n\r\n",
        b"GET /health HTTP/1.1\r\n Host: x\r\n\r\n",
        *(
            b"POST /api/v1/cases HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n0\r\n\r\n%b" % (odd, HIDDEN)
            for odd in (
                b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                b"Transfer-Encoding: chunked, identity",
                b"Transfer-Encoding : chunked",
                b"Transfer-Encoding:\tchunked",
                b"Transfer-Encoding: \x0bchunked",
                b'Transfer-Encoding: "chunked"',
            )
        ),
        *(
            b"POST /api/v1/cases HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\nhello%b" % (odd, HIDDEN)
            for odd in (b"+5", b"0x5", b"5, 5", b"5_0", b"5e0", b"", b"5\r\nContent-Length: 5", "５".encode())
        ),
        *(
            b"POST /api/v1/cases HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%b%b" % (odd, HIDDEN)
            for odd in (
                b"-5\r\nhello\r\n0\r\n\r\n",
                b"0x5\r\nhello\r\n0\r\n\r\n",
                b"5\nhello\n0\n\n",
                b"5\r\nhelloXX0\r\n\r\n",
            )
        ),
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: a\r\n" % number for number in range(8000)) + b"\r\n",
    ],
)
def test_framing(running: Process, sent: bytes) -> None:
    """A request whose ends cannot be told is answered once, with a refusal, or not at all; the service goes on."""
    answer = b""
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while part := connection.recv(65_536):
                answer += part

    statuses = re.findall(rb"HTTP/1\.[01] (\d{3})", answer)
    assert len(statuses) <= 1
    assert not answer or statuses[0] in (b"400", b"401", b"404", b"408", b"413", b"414", b"431", b"501", b"505")
    assert b"Traceback" not in answer
    assert b"waitress" not in answer.lower()
    assert not answer or b"application/problem+json" in answer
    assert (200, {"alive": True}) == running.ask("GET", "/health/live")


def test_body_without_a_length_is_refused_when_it_is_too_large(running: Process) -> None:
    """A body in chunks, which says nothing of its length, is refused when it has become too large, not when it ends."""
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    sent, answer = 0, b""
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(b"POST /api/v1/cases HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            while sent < 64:
                connection.sendall(chunk)
                sent += 1
        with contextlib.suppress(OSError):
            answer = connection.recv(65_536)

    assert sent < 32
    assert not answer or b" 413 " in answer.partition(b"\r\n")[0]
    assert (200, {"alive": True}) == running.ask("GET", "/health/live")


def test_large_body_is_refused_early(running: Process) -> None:
    """A body that says it has gigabytes is refused before it is sent."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
        connection.sendall(
            b"POST /api/v1/cases HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
            b"Content-Length: 10737418240\r\n\r\n" % token().encode()
        )
        answer = connection.recv(65_536)

    assert b" 413 " in answer.partition(b"\r\n")[0]


def test_idle_connections_do_not_stop_probes(running: Process) -> None:
    """Two hundred connections that say nothing, or half a header, keep no probe waiting."""
    with contextlib.ExitStack() as stack:
        for number in range(200):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=10))
            if number % 2:
                connection.sendall(b"GET /health/live HTTP/1.1\r\nHo")
        begun = time.monotonic()
        assert (200, {"alive": True}) == running.ask("GET", "/health/live")
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "sent", [b"GET /health/live HTTP/1.1\r\nHost: x\r\n", b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\na"]
)
def test_dripping_request(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that has not arrived in its time is refused, though its sender is busy."""
    parser = Parser(Adjustments())
    now = time.monotonic()
    for number in range(3):
        parser.received(sent if number == 0 else b"a")
    monkeypatch.setattr(framing.time, "monotonic", lambda: now + framing.ARRIVES_WITHIN + 5)

    parser.received(b"b")

    assert parser.completed
    assert (408, True) == (parser.error.code, b"urn:knhk:problem:malformed" in parser.error.to_response()[2])


def shell_commands(text: str) -> list[str]:
    """The commands of a page's ``bash`` and ``sh`` blocks that ask a server."""
    found = []
    for block in re.findall(r"^```(?:bash|sh)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        joined = "\n".join(lines)
        if joined.startswith("curl"):
            found.append(joined)
    return found


def answers_of(page: Path, state: Path) -> list[tuple[int, Any]]:
    """What the commands of a page are answered, in order."""
    answers = []
    with process(state) as made:
        for command in shell_commands(page.read_text(encoding="utf-8")):
            asked = command.replace("localhost:8080", f"127.0.0.1:{made.port}").replace("<token>", token())
            line = f"{asked} -s -w '\\n%{{http_code}}'"
            done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30, check=True)
            body, _, status = done.stdout.rpartition("\n")
            answers.append((int(status), json.loads(body)))
    return answers


HEALTH = [
    {"alive": True},
    {"ready": True},
    {"status": "Healthy", "service": "knhk-workflow-engine", "version": "1.0.0"},
]


@pytest.mark.parametrize("guide", [GUIDE] if GUIDE.is_file() else [ROOT / "docs" / "how-to" / "deploy.md"])
def test_commands_of_the_guide(tmp_path: Path, guide: Path) -> None:
    """Every command of the deployment guide (of our own page, where that is not beside us), as printed, answers rightly."""
    answers = answers_of(guide, tmp_path / "s")

    assert len(answers) >= 7
    assert {200, 201} == {status for status, _ in answers}
    assert all(each in [body for _, body in answers] for each in HEALTH)


def test_commands_of_the_page_on_deployment(tmp_path: Path) -> None:
    """Every command of our own page on deployment answers rightly, and the case that it creates waits for a person."""
    answers = answers_of(ROOT / "docs" / "how-to" / "deploy.md", tmp_path / "s")

    assert 7 == len(answers)
    assert {200, 201} == {status for status, _ in answers}
    assert all(each in [body for _, body in answers] for each in HEALTH)
    assert ["greet"] == [each["path"] for each in answers[2][1]["items"]]
