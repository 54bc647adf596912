"""One connection to Redis: what arrives in pieces, late, twice or not at all, and a caller that is interrupted meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from redis import exceptions

from knhk.ports import Durability
from knhk.stores import _redis_wire
from knhk.stores._redis_link import Link, read_address
from knhk.stores._redis_wire import Wire, wire
from knhk.stores.redis import RedisStore
from knhk.testing.store_conformance import ORDER, step

ASKED = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"


class Pair:
    """Both ends of a connection, of which `far` is the server's."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.settimeout(5)

    def wire(self, timeout: float = 30) -> Wire:
        """Our end, as the store has it."""
        return wire(SimpleNamespace(_sock=self.near, disconnect=self.near.close), timeout)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A connection."""
    made = Pair()
    with made.near, made.far:
        yield made


def test_answer_in_pieces(pair: Pair) -> None:
    """An answer longer than what one receive brings is whole, and so is the next one."""
    made, value = pair.wire(), os.urandom(150_000)
    pair.far.sendall(b"$150000\r\n" + value + b"\r\n")
    answers = [made.call(("GET", "k"))]
    pair.far.sendall(b"*2\r\n:1\r\n$-1\r\n")
    answers.append(made.call(("GET", "k")))

    assert [value, [1, None]] == answers
    assert 2 * ASKED == pair.far.recv(100)
    assert made.is_usable()


def test_answer_that_is_an_error(pair: Pair) -> None:
    """An error is raised with the server's words, and the connection is as good as before."""
    made = pair.wire()
    pair.far.sendall(b"-NOSCRIPT No matching script\r\n")
    with pytest.raises(exceptions.ResponseError, match="^NOSCRIPT No matching"):
        made.call(("GET", "k"))
    pair.far.sendall(b":7\r\n")

    assert 7 == made.call(("GET", "k"))


def test_no_answer(pair: Pair) -> None:
    """Where nothing comes in time, and where nothing can be sent in time, the call ends."""
    made = pair.wire(1e-9)
    with pytest.raises(exceptions.TimeoutError):
        made.call(("GET", "k"))
    with pytest.raises(exceptions.TimeoutError):
        made.call(("SET", "k", b"x" * 10_000_000))


@pytest.mark.parametrize("said", [b"", b"$5\r\nab"])
def test_server_ends_the_connection(pair: Pair, said: bytes) -> None:
    """A connection that ends before or within an answer is lost, and sending on it as well."""
    made = pair.wire()
    pair.far.sendall(said)
    pair.far.close()
    for _ in range(2):
        with pytest.raises(exceptions.ConnectionError):
            made.call(("GET", "k"))
    assert not made.is_usable()


@pytest.mark.parametrize("at_once", [True, False])
def test_answer_to_nobody(pair: Pair, *, at_once: bool) -> None:
    """A connection on which more has come than was asked for is not used again, wherever that has come to."""
    made = pair.wire()
    pair.far.sendall(b":1\r\n:2\r\n" if at_once else b":1\r\n")
    answer = made.call(("GET", "k"))
    if not at_once:
        pair.far.sendall(b":2\r\n")

    assert 1 == answer
    assert not made.is_usable()


def test_what_is_no_answer(pair: Pair) -> None:
    """What the protocol does not have is an error of the connection."""
    made = pair.wire()
    pair.far.sendall(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(exceptions.InvalidResponse):
        made.call(("GET", "k"))


def test_interrupt_while_waiting(redis: str) -> None:
    """Whoever is interrupted while it waits leaves no connection whose answer is still to come."""
    link, other = (Link(read_address(redis), Durability.FULL, 30) for _ in range(2))

    def interrupt() -> None:
        while b"cmd=blpop" not in other.tell("CLIENT", "LIST"):
            pass
        while not over.is_set():
            # Again where it came in the instant before the wait began.
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # type: ignore[arg-type]
            over.wait(2)

    over = threading.Event()
    caller = threading.Thread(target=interrupt)
    caller.start()
    with pytest.raises(KeyboardInterrupt):
        link.tell("BLPOP", "nothing", 0)
    over.set()
    caller.join()

    assert not link._idle
    assert b"PONG" == link.tell("PING")
    link.close()
    other.close()


@pytest.mark.parametrize("packer", [True, False])
def test_step_of_megabytes(redis: str, monkeypatch: pytest.MonkeyPatch, *, packer: bool) -> None:
    """A batch longer than a socket takes at once goes and comes back, also by the library's own means."""
    if not packer:
        monkeypatch.setattr(_redis_wire, "pack_command", None)
    store = RedisStore(f"{redis}?namespace=wire-{os.getpid()}-{packer}", timeout_ms=30_000)
    batch = os.urandom(5_000_000)
    store.put_specification(ORDER)
    store.commit([step("a", batch=batch)])

    assert (batch,) == store.history("a")
    assert packer == (type(store._link._idle[0]) is not Wire)
    store.close()


@pytest.mark.parametrize("packer", [True, False])
def test_connection_that_the_server_has_ended(redis: str, monkeypatch: pytest.MonkeyPatch, *, packer: bool) -> None:
    """A connection that was ended while nobody used it is made anew before anything is sent."""
    if not packer:
        monkeypatch.setattr(_redis_wire, "pack_command", None)
    link, other = (Link(read_address(redis), Durability.FULL, 30) for _ in range(2))
    ended = link.tell("CLIENT", "ID")
    other.tell("CLIENT", "KILL", "ID", ended)

    assert ended != link.tell("CLIENT", "ID")
    link.close()
    other.close()
