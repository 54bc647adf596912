"""
sayiir: tasks are Python functions, the orchestration is in Rust.

After the README of sayiir 1.0.0 ("Sequential workflow", "Parallel execution",
"Conditional branching", "Loops"): ``run_workflow`` for what need not last.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, ClassVar

from sayiir import Flow, InMemoryBackend, LoopResult, run_durable_workflow, run_workflow

from benchmarks.peers.protocol import Run, Worker, expect, serve

NO_SQLITE = "its only lasting store is PostgreSQL"


class Sayiir(Worker):
    """The library."""

    name = "sayiir"
    version = version("sayiir")
    absent: ClassVar[Mapping[str, str]] = {
        "some": "it has no OR-split",
        "instances": "it has no multiple instances",
        "durable": NO_SQLITE,
        "restart": NO_SQLITE,
    }

    def __init__(self) -> None:
        self._backend: Any = None
        self._waiting: Any = None

    def sequence(self, size: int, _folder: str) -> Run:
        """`then` after `then`."""
        flow = Flow("sequence")
        for number in range(size):
            flow = flow.then(_work, name=f"t{number}")
        return _runs(flow.build(), 7, 7)

    def parallel(self, size: int, _folder: str) -> Run:
        """`fork`, branches and `join`."""
        builder = Flow("parallel").then(_work, name="fork").fork()
        for number in range(size):
            builder = builder.branch(_work, name=f"b{number}")
        return _runs(builder.join(_join).build(), 7, size)

    def choice(self, size: int, _folder: str) -> Run:
        """`route`: the key's function is the first task; the second branch is taken."""
        keys = [str(number) for number in range(size)]
        builder = Flow("choice").route(_second, keys=keys)
        for key in keys:
            builder = builder.branch(key, _work, name=f"b{key}")
        return _runs(builder.done().then(_done, name="join").build(), 7, 7)

    def loop(self, size: int, _folder: str) -> Run:
        """`loop` until done."""

        def turn(value: int) -> Any:
            if value + 1 < size:
                return LoopResult.again(value + 1).to_dict()
            return LoopResult.done(value + 1).to_dict()

        return _runs(Flow("loop").loop(turn, max_iterations=size + 1).build(), 0, size)

    def idle(self, number: int) -> object:
        """A workflow that waits for a signal, in the backend in memory."""
        if self._backend is None:
            self._backend = InMemoryBackend()
            flow = Flow("waits").wait_for_signal("first").then(_work, name="t1").then(_work, name="t2")
            self._waiting = flow.build()
        status = run_durable_workflow(self._waiting, f"case-{number}", {"order": number}, backend=self._backend)
        expect(status.is_in_progress() or not status.is_completed(), "the workflow does not wait")
        return self._backend


def _work(value: Any) -> Any:
    return value


def _join(values: Any) -> int:
    return len(values)


def _second(_value: Any) -> str:
    return "1"


def _done(envelope: Any) -> Any:
    return envelope["result"]


def _runs(workflow: Any, given: Any, expected: Any) -> Run:
    def run() -> None:
        expect(run_workflow(workflow, given) == expected)

    return run


if __name__ == "__main__":
    serve(Sayiir())
