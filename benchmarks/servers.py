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
from knhk import Engine

CALLERS = (1, 8, 64)
TURN = 8
"""Operations of each caller before it is another's turn."""

GOAL = ">= 0.80"
_SWAP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
_STARTING = 30.0
Slice = Callable[[], int]


def redis(scale: Scale) -> Iterator[Figure]:
    """
    Redis with appendfsync always; 1, 8 and 64 threads with a case and a connection each, on one engine, in turns.

    In turns with them: as many threads that compare and swap one key of 72 bytes each by a script of three lines.
    """
    yield from _measured("Redis", "redis-server", _redis, _redis_swaps, scale)


def etcd(scale: Scale) -> Iterator[Figure]:
    """
    One member of etcd; 1, 8 and 64 threads with a case each, on one engine, in turns.

    In turns with them: as many threads that compare and swap one key of 64 bytes each by a transaction, with the same library.
    """
    yield from _measured("etcd", "etcd", _etcd, _etcd_swaps, scale)


def _measured(
    name: str,
    program: str,
    command: Callable[[str, int], Sequence[str]],
    swaps: Callable[[int, int], list[Slice]],
    scale: Scale,
) -> Iterator[Figure]:
    found = shutil.which(program)
    if found is None:
        yield absent(f"durable steps on {name} against its compare-and-swap", GOAL, f"{program} is not installed")
        return
    with tempfile.TemporaryDirectory() as folder, _server([found, *command(folder, port := _free_port())], port):
        scheme = name.lower()
        for callers in CALLERS:
            with (
                Engine(f"{scheme}://127.0.0.1:{port}?namespace=bench{callers}") as engine,
                ThreadPoolExecutor(callers) as pool,
            ):
                works = {"swap": swaps(port, callers), "step": _steps(engine, callers)}
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


def _redis_swaps(port: int, callers: int) -> list[Slice]:
    from redis import Redis  # noqa: PLC0415 - an extra

    def of_one(number: int) -> Slice:
        client = Redis(port=port, single_connection_client=True)
        digest = client.script_load(_SWAP)
        name, value = f"raw{callers}-{number}", b"x" * 64 + b"%08d" % 0
        client.set(name, value)
        at = [0]

        def swaps() -> int:
            for _ in range(TURN):
                before, after = (b"x" * 64 + b"%08d" % each for each in (at[0], at[0] + 1))
                if client.evalsha(digest, 1, name, before, after) != 1:
                    raise AssertionError(name)
                at[0] += 1
            return TURN

        return swaps

    return [of_one(number) for number in range(callers)]


def _etcd_swaps(port: int, callers: int) -> list[Slice]:
    from etcd3gw.client import Etcd3Client  # noqa: PLC0415 - an extra

    from knhk.stores import _etcd_link as link  # noqa: PLC0415 - it needs the extra

    def of_one(number: int) -> Slice:
        client = Etcd3Client("127.0.0.1", port, api_path="/v3/")
        key = f"raw{callers}-{number}".encode()
        revision = [0]

        def swaps() -> int:
            for _ in range(TURN):
                body = link.transaction([link.unchanged(key, revision[0])], [link.put(key, b"x" * 64)])
                answer = client.post(client.get_url("/kv/txn"), json=body)
                if not answer.get("succeeded"):
                    raise AssertionError(key)
                revision[0] = int(answer["header"]["revision"])
            return TURN

        return swaps

    return [of_one(number) for number in range(callers)]


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
    here, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{_free_port()}"
    return [
        *("--data-dir", str(Path(folder, "etcd")), "--log-level", "error", "--logger", "zap"),
        *("--listen-client-urls", here, "--advertise-client-urls", here, "--listen-peer-urls", peer),
        *("--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
    ]


@contextmanager
def _server(command: Sequence[str], port: int) -> Iterator[None]:
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


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


BENCHMARKS: dict[str, Benchmark] = {"redis": redis, "etcd": etcd}
