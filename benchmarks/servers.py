"""What cases cost on servers that instances share: acknowledged steps a second beside the server's own compare-and-swap."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Benchmark, Figure, Scale, absent, sample, spread
from benchmarks.nets import ring
from benchmarks.swaps import SWAPS, Swap
from knhk import Engine

CALLERS = (1, 8, 64)
TURN = 8
"""Operations of each caller before it is another's turn."""

GOAL = ">= 0.80"
_STARTING = 30.0
Slice = Callable[[], int]


def redis(scale: Scale) -> Iterator[Figure]:
    """
    Redis with appendfsync always; 1, 8 and 64 threads with a case and a connection each, on one engine, in turns.

    In turns with them: as many threads that compare and swap one key of 72 bytes each by a script of three lines.
    """
    yield from _measured("Redis", scale)


def etcd(scale: Scale) -> Iterator[Figure]:
    """
    One member of etcd; 1, 8 and 64 threads with a case each, on one engine, in turns.

    In turns with them: as many threads that compare and swap one key of 64 bytes each by a transaction, with the library etcd3gw.
    """
    yield from _measured("etcd", scale)


def _measured(name: str, scale: Scale) -> Iterator[Figure]:
    program, command = COMMANDS[scheme := name.lower()]
    found = shutil.which(program)
    if found is None:
        yield absent(f"durable steps on {name} against its compare-and-swap", GOAL, f"{program} is not installed")
        return
    with tempfile.TemporaryDirectory() as folder, server([found, *command(folder, port := free_port())], port):
        for callers in CALLERS:
            with (
                Engine(f"{scheme}://127.0.0.1:{port}?namespace=bench{callers}") as engine,
                ThreadPoolExecutor(callers) as pool,
            ):
                works = {"swap": _swaps(scheme, port, callers), "step": _steps(engine, callers)}
                costs: dict[str, list[float]] = {each: [] for each in works}
                end = time.perf_counter() + scale.seconds(5)
                while time.perf_counter() < end:
                    for kind, slices in works.items():
                        costs[kind] += sample(lambda slices=slices: sum(pool.map(_call, slices)), seconds=0, at_least=1)  # type: ignore[misc]
            rates = {kind: spread([1 / each for each in every]) for kind, every in costs.items()}
            many = f"{callers} caller{'s' if callers > 1 else ''}"
            swap, step = min(costs["swap"]), min(costs["step"])
            yield Figure(f"compare-and-swap on {name}, {many}", 1 / swap, "/s", rates["swap"])
            yield Figure(f"durable manual steps on {name}, {many}", 1 / step, "/s", rates["step"])
            yield Figure(
                f"durable steps on {name} against compare-and-swap, {many}",
                swap / step,
                "x",
                "",
                GOAL,
                swap / step >= 0.8,
            )


def _call(work: Slice) -> int:
    return work()


def _steps(engine: Engine, callers: int) -> list[Slice]:
    """Return for each caller a slice of acknowledged manual steps of its case."""
    engine.register(ring(100))

    def of_one() -> Slice:
        case = engine.create_case("ring100")
        case.start()
        position = [0]

        def steps() -> int:
            for _ in range(TURN):
                case.complete_task(f"t{position[0]}")
                position[0] = (position[0] + 1) % 100
            return TURN

        return steps

    return [of_one() for _ in range(callers)]


def _swaps(kind: str, port: int, callers: int) -> list[Slice]:
    """Return for each caller a slice of compare-and-swap of a key of its own."""

    def of_one(swap: Swap) -> Slice:
        def swaps() -> int:
            for _ in range(TURN):
                swap()
            return TURN

        return swaps

    names = [f"raw{callers}-{number}" for number in range(callers)]
    return list(map(of_one, SWAPS[kind](f"{kind}://127.0.0.1:{port}", names)))


def _redis(folder: str, port: int) -> Sequence[str]:
    return [
        "--bind",
        "127.0.0.1",
        "--port",
        str(port),
        "--dir",
        folder,
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
    ]


def _etcd(folder: str, port: int) -> Sequence[str]:
    here, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{free_port()}"
    return [
        *("--data-dir", str(Path(folder, "etcd")), "--log-level", "error", "--logger", "zap"),
        *("--listen-client-urls", here, "--advertise-client-urls", here, "--listen-peer-urls", peer),
        *("--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
    ]


@contextmanager
def server(command: Sequence[str], port: int) -> Iterator[None]:
    """Run a server until it is not needed any more."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - found by name
        try:
            end = time.monotonic() + _STARTING
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > end:
                    message = f"{command[0]} did not start"
                    raise RuntimeError(message)
                time.sleep(0.05)
            yield
        finally:
            process.kill()


def _answers(port: int) -> bool:
    """Whether a server answers: etcd with its health, Redis with a complaint."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
            line.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            with line.makefile("rb") as answer:
                first = answer.readline()
                return first.startswith(b"-ERR") or (first.startswith(b"HTTP/") and b'"true"' in answer.read())
    except OSError:
        return False


def free_port() -> int:
    """Return a port of the loopback interface that nobody has now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


COMMANDS: dict[str, tuple[str, Callable[[str, int], Sequence[str]]]] = {
    "redis": ("redis-server", _redis),
    "etcd": ("etcd", _etcd),
}
"""By kind of store: the program, and its arguments for a folder and a port."""

BENCHMARKS: dict[str, Benchmark] = {"redis": redis, "etcd": etcd}
