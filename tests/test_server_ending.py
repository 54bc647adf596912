"""The end of an instance: readiness goes first, and whoever was connected is answered."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from nursery import Nursery

from knhk.server.leaving import GRACE, SETTLES, Leaving, grace_of, refuse_new, refuses_new, take_new
from tests.served import ORDER, token
from tests.served_workers import serving_nursery, start_serving
from tests.test_server_serving import process
from tests.test_server_tls import Files

ENDS = 30
AT_ONCE = 6


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Starts instances."""
    with serving_nursery() as made:
        yield made


class Clients:
    """
    Four clients who create cases until nobody listens: two over connections that stay open, two over one for each case.

    Attributes:
        statuses: what they were answered.
        broken: what went wrong on a connection that was theirs.
        readiness: what `/health/ready` said when it first said no.
    """

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._context = context
        self._headers = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json"}
        self._over = threading.Event()
        self.statuses = Counter[int]()
        self.broken: list[str] = []
        self.readiness: tuple[int, Any] = (200, None)

    def end(self, terminate: Callable[[], None], ended: Callable[[], int | None]) -> int | None:
        """End the instance while they ask; returns what `ended` says."""
        assert 201 == self._once("POST", "/api/v1/workflows", {"spec": ORDER})[0]
        threads = [threading.Thread(target=self._create, kwargs={"anew": bool(number % 2)}) for number in range(4)]
        for each in threads:
            each.start()
        while sum(self.statuses.values()) < 20 and not self.broken:
            self._over.wait(0.01)
        terminate()
        while self.readiness[0] == 200:
            self.readiness = self._once("GET", "/health/ready")
        status = ended()
        for each in threads:
            each.join()
        return status

    def check(self) -> None:
        """Fail unless all is as it should be."""
        assert [] == self.broken
        assert {201} == set(self.statuses)
        assert (503, {"ready": False, "reason": "draining"}) == self.readiness

    def _connection(self) -> http.client.HTTPConnection:
        if self._context is not None:
            return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=10, context=self._context)
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)

    def _once(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        with contextlib.closing(self._connection()) as connection:
            return self._ask(connection, method, path, body)

    def _ask(self, connection: http.client.HTTPConnection, method: str, path: str, body: Any) -> tuple[int, Any]:
        connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.will_close:
            connection.close()
        return answer.status, json.loads(text)

    def _create(self, *, anew: bool) -> None:
        connection = self._connection()
        while True:
            try:
                if connection.sock is None:
                    connection.connect()
                status, _ = self._ask(connection, "POST", "/api/v1/cases", {"spec_id": "order", "start": True})
            except ConnectionRefusedError:
                return
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(repr(error))
                return
            self.statuses[status] += 1
            if anew:
                connection.close()
            self._over.wait(0.002)


def test_nobody_who_was_connected_goes_without_an_answer(nursery: Nursery, tmp_path: Path) -> None:
    """At thirty ends under load readiness is the first to say no, every request on every connection is answered, and the exit is 0."""

    def end(number: int) -> tuple[int | None, Clients]:
        worker, port = start_serving(nursery, tmp_path / str(number), DURABILITY="off", DRAIN_TIMEOUT="2")
        clients = Clients(port)

        def ended() -> int | None:
            # Until its end nobody waits for it, who would keep those waiting that start and end others.
            worker.stdout.read()
            return worker.wait()

        return clients.end(worker.terminate, ended), clients

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for status, clients in pool.map(end, range(ENDS)):
            clients.check()
            assert 0 == status


@pytest.mark.parametrize("kind", ["two workers", "TLS", "TLS, two workers"])
def test_other_ways_to_serve_end_alike(kind: str, tmp_path: Path) -> None:
    """Several processes on one port, and those that speak TLS, end without losing a request too."""
    files = Files(tmp_path) if "TLS" in kind else None
    arguments = ("--workers", "2") if "two" in kind else ()
    given = {"DRAIN_TIMEOUT": "4", **(files.environment if files is not None else {})}
    with process(tmp_path / "s", arguments=arguments, **given) as made:
        clients = Clients(made.port, None if files is None else files.context())
        status = clients.end(lambda: made.process.send_signal(signal.SIGTERM), made.end)

    clients.check()
    assert 0 == status


# --- the steps --------------------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that is open, from which nobody accepts."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def connected(listener: socket.socket) -> socket.socket | None:
    """A connection that the kernel has taken; None: it takes none."""
    try:
        return socket.create_connection(listener.getsockname(), timeout=0.05)
    except TimeoutError:
        return None


def test_kernel_takes_no_new_connection(listener: socket.socket) -> None:
    """Whoever was connected before stays so and is heard; whoever comes now is not answered, until that is taken back."""
    with connected(listener) or socket.socket() as before:
        assert refuse_new(listener)
        assert refuses_new(listener)
        before.sendall(b"x")
        accepted, _ = listener.accept()
        with accepted:
            assert b"x" == accepted.recv(1)
        assert connected(listener) is None
        take_new(listener)
        with connected(listener) or socket.socket() as after:
            assert after.getpeername() == listener.getsockname()
    assert not refuses_new(listener)


def test_other_systems_take_until_the_port_is_closed(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel has no such filter nothing is told to it."""
    monkeypatch.setattr("sys.platform", "darwin")

    assert (False, False) == (refuse_new(listener), refuses_new(listener))


def test_port_is_closed_last(listener: socket.socket) -> None:
    """An end takes connections for a grace, then none, and is over when those that were taken are accepted and none came for a moment."""
    now = [100.0]
    leaving = Leaving([listener], 20.0, alone=True, seconds=lambda: now[0])
    assert (False, False) == (leaving.over(), refuses_new(listener))
    with connected(listener) or socket.socket():
        now[0] += GRACE
        assert (False, True) == (leaving.over(), refuses_new(listener))
        now[0] += SETTLES
        assert not leaving.over()
        listener.accept()[0].close()
        now[0] += SETTLES / 2
        assert not leaving.over()
        now[0] += SETTLES
        assert leaving.over()


def test_nobody_accepts(listener: socket.socket) -> None:
    """Where what was taken is never accepted, the end is over when its time is; the grace is at most a quarter of that."""
    now = [100.0]
    leaving = Leaving([listener], 2.0, alone=True, seconds=lambda: now[0])
    with connected(listener) or socket.socket():
        now[0] += 1.9
        assert (0.5, False) == (grace_of(2.0), leaving.over())
        now[0] += 0.1
        assert leaving.over()


@pytest.mark.parametrize("all_end", [True, False])
def test_one_of_several_leaves_it_to_who_opened_the_port(listener: socket.socket, *, all_end: bool) -> None:
    """One of several processes on a port tells the kernel nothing: it waits a while for who does, and leaves the port to the others."""
    now = [100.0]
    leaving = Leaving([listener], 20.0, alone=False, seconds=lambda: now[0])
    now[0] += GRACE
    assert (False, False) == (leaving.over(), refuses_new(listener))
    if all_end:
        refuse_new(listener)
    now[0] += GRACE * 0.9
    assert all_end == leaving.over()
    now[0] += GRACE * 0.2 + SETTLES
    assert leaving.over()
