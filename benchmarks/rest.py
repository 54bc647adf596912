"""What the service costs over HTTP: beside the bare framework on the same server, and beside the engine on the same store."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from benchmarks.measure import Benchmark, Figure, Scale, absent, sample, spread
from benchmarks.nets import line
from knhk import Engine

CLIENTS = 8
TURN = 20
"""Requests of each client before it is another's turn."""

GOAL = ">= 0.80"
_SECRET = "only of this benchmark, 32 bytes or more"
_BARE = """
import falcon, sys
from waitress.server import create_server
body = sys.argv[1].encode()
class Case:
    def on_get(self, req, resp, case_id):
        resp.content_type, resp.data = "application/json", body
app = falcon.App()
app.add_route("/api/v1/cases/{case_id}", Case())
server = create_server(app, host="127.0.0.1", port=0, threads=int(sys.argv[2]), ident=None)
print(f"serving http://127.0.0.1:{server.effective_port}/", file=sys.stderr, flush=True)
server.run()
"""


class _Server:
    """A process that serves on a port of its own, and what it has used of the processor."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_")}
        # Its log goes to a file: a pipe would have to be read, by the processor that is measured.
        self._log = tempfile.TemporaryFile("a+", encoding="utf-8")  # noqa: SIM115 - open as long as the process
        self._process = subprocess.Popen(  # noqa: S603 - this program's own command
            [sys.executable, *command], env={**clean, **environment}, stderr=self._log
        )
        self.port = self._read_port()

    def _read_port(self) -> int:
        """Return where it serves, once it does."""
        while True:
            over = self._process.poll() is not None
            self._log.seek(0)
            found = re.search(r"serving http://\S+:(\d+)/", said := self._log.read())
            if found is not None:
                return int(found[1])
            if over:
                raise RuntimeError(f"the server did not start: {said}")
            time.sleep(0.05)

    def seconds(self) -> float:
        """Return the processor time that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)
        self._log.close()


class _Client:
    """A connection that stays open."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask, and return the answer, which must be a good one."""
        self._connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text)


def rest(scale: Scale) -> Iterator[Figure]:
    """
    A process with the service (authentication, limits, record and figures on), asked over connections that stay open.

    In turns: one client that reads a case of ten tasks from the service, and the same body from Falcon alone on waitress with as many threads;
    then 8 clients that start and complete work items of one case each, as many threads that do it on an engine with a file of its
    own, both under durability full, and as many clients that only ask Falcon: more requests than that no service of it answers.
    """
    if find_spec("falcon") is None or not Path("/proc/self/stat").exists():
        yield absent(
            "REST against the bare framework and the store", GOAL, "needs Linux and pip install 'knhk[server]'"
        )
        return
    token = import_module("knhk.server.identity").make_token(_SECRET.encode(), subject="bench", roles=["admin"])
    net, small = line("rest", scale.count(2_000, 200), manual={}), line("read", 10, manual={})
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ending, ThreadPoolExecutor(CLIENTS) as pool:
        settings = {"STATE_PATH": folder, "API_PORT": "0", "JWT_SECRET": _SECRET, "RATE_LIMIT": "1000000"}
        service = ending.enter_context(
            _serving(["-m", "knhk", "serve"], {f"WORKFLOW_{name}": value for name, value in settings.items()})
        )
        clients = [ending.enter_context(_Client(service.port, token)) for _ in range(CLIENTS)]
        for each in (net, small):
            clients[0].ask("POST", "/workflows", {"spec": json.loads(each.to_json())})
        case = clients[0].ask(
            "POST", "/cases", {"spec_id": "read", "data": {"customer": "Ann", "amount": 12}, "start": True}
        )
        path = f"/cases/{case['case_id']}"
        body = json.dumps(clients[0].ask("GET", path))
        bare = ending.enter_context(_serving(["-c", _BARE, body, str(CLIENTS)], {}))
        ask_bare = [ending.enter_context(_Client(bare.port, token)) for _ in range(CLIENTS)]
        yield from _reads(service, bare, clients[0], ask_bare[0], path, scale)
        yield from _steps(service, clients, bare, ask_bare, Path(folder, "engine.db"), pool, net, scale)


def _reads(
    service: _Server, bare: _Server, asks: _Client, asks_bare: _Client, path: str, scale: Scale
) -> Iterator[Figure]:
    def reading(client: _Client) -> Callable[[], int]:
        def read() -> int:
            for _ in range(TURN):
                client.ask("GET", path)
            return TURN

        return read

    costs, used = _in_turns({"bare": (bare, reading(asks_bare)), "service": (service, reading(asks))}, scale.seconds(6))
    for name, kind in (("Falcon alone", "bare"), ("the service", "service")):
        yield Figure(
            f"authenticated GET, {name}", 1 / min(costs[kind]), "/s", spread([1 / each for each in costs[kind]])
        )
        yield Figure(f"processor time of the server for it, {name}", used[kind] * 1e6, "us")
    ratio = min(costs["bare"]) / min(costs["service"])
    yield Figure("authenticated GET against the bare framework", ratio, "x", "", GOAL, ratio >= 0.80)


def _steps(
    service: _Server,
    clients: Sequence[_Client],
    bare: _Server,
    ask_bare: Sequence[_Client],
    file: Path,
    pool: ThreadPoolExecutor,
    net: Any,
    scale: Scale,
) -> Iterator[Figure]:
    with Engine(str(file)) as engine:
        engine.register(net)
        cases = [engine.create_case("rest", start=True) for _ in clients]
        made = [
            client.ask("POST", "/cases", {"spec_id": "rest", "data": {}, "start": True})["case_id"]
            for client in clients
        ]
        at, served_at = [0] * len(clients), [0] * len(clients)

        def on_engine(caller: int) -> None:
            for _ in range(TURN // 4):
                at[caller] += 1
                item = cases[caller].work_item(at[caller])
                item.start()
                item.complete()

        def over_http(caller: int) -> None:
            for _ in range(TURN // 4):
                served_at[caller] += 1
                for what in ("start", "complete"):
                    clients[caller].ask("POST", f"/workitems/{made[caller]}:{served_at[caller]}/{what}", {})

        def on_bare(caller: int) -> None:
            for _ in range(2 * (TURN // 4)):
                ask_bare[caller].ask("GET", "/cases/any")

        def all_of(part: Callable[[int], None]) -> Callable[[], int]:
            def work() -> int:
                list(pool.map(part, range(len(clients))))
                return 2 * len(clients) * (TURN // 4)

            return work

        costs, used = _in_turns(
            {
                "engine": (None, all_of(on_engine)),
                "service": (service, all_of(over_http)),
                "bare": (bare, all_of(on_bare)),
            },
            scale.seconds(6),
        )
    many = f"{len(clients)} callers"
    for name, kind in (("engine", "engine"), ("over HTTP", "service")):
        yield Figure(
            f"durable steps, {name}, {many}", 1 / min(costs[kind]), "/s", spread([1 / each for each in costs[kind]])
        )
    yield Figure(
        f"requests of Falcon alone, {many}", 1 / min(costs["bare"]), "/s", spread([1 / each for each in costs["bare"]])
    )
    yield Figure("processor time of the server for a durable step", used["service"] * 1e6, "us")
    ratio = min(costs["engine"]) / min(costs["service"])
    yield Figure("durable steps over HTTP against the engine", ratio, "x", "", GOAL, ratio >= 0.80)


def _in_turns(
    works: Mapping[str, tuple[_Server | None, Callable[[], int]]], seconds: float
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the seconds an operation of each slice, and the server's processor time an operation over all, by kind of work."""
    costs: dict[str, list[float]] = {kind: [] for kind in works}
    used, done = dict.fromkeys(works, 0.0), dict.fromkeys(works, 0)
    end = time.perf_counter() + seconds
    while not done[next(iter(works))] or time.perf_counter() < end:
        for kind, (server, work) in works.items():
            before = 0.0 if server is None else server.seconds()
            counted: list[int] = []
            costs[kind] += sample(lambda work=work, counted=counted: _noted(work, counted), seconds=0, at_least=1)  # type: ignore[misc]
            done[kind] += sum(counted)
            used[kind] += 0.0 if server is None else server.seconds() - before
    return costs, {kind: used[kind] / done[kind] for kind in works}


def _noted(work: Callable[[], int], counted: list[int]) -> int:
    counted.append(work())
    return counted[-1]


@contextmanager
def _serving(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[_Server]:
    server = _Server(command, environment)
    try:
        yield server
    finally:
        server.end()


BENCHMARKS: dict[str, Benchmark] = {"rest": rest}
