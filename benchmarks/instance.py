"""
One instance of several, as a process of its own: ``python -m benchmarks.instance KIND STORE NAME``.

Each line of its input is a turn, ``{"act": "swap", "clients": 8, "seconds": 0.5}``: every client swaps, makes a ``step`` and waits for
it, or makes several by a ``pipeline``, one of each of its cases, and waits for all.
When the turn is over it answers with a line that says how much was done, in how many seconds, and how much processor time that
took of this process.
It ends with its input.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from benchmarks.nets import ring
from benchmarks.swaps import SWAPS
from knhk import Engine

TASKS: Final = 100
UNDER_WAY: Final = 16
"""Commands that a client with a pipeline has under way."""


Act = Callable[[], None]


def main(kind: str, store: str, name: str) -> None:
    """Take turns until the input ends."""
    acts: dict[str, list[Act]] = {"swap": [], "step": [], "pipeline": []}
    with Engine(store, instance=name) as engine, engine.serve(workers=1):
        engine.register(ring(TASKS))
        for line in sys.stdin:
            said = json.loads(line)
            clients = said["clients"]
            more = range(len(acts["step"]), clients)
            acts["step"] += [_step(engine) for _ in more]
            acts["pipeline"] += [_pipeline(engine) for _ in more]
            acts["swap"] += SWAPS[kind](store, [f"{name} {each}" for each in more]) if more else []
            done, seconds, processor = turn(acts[said["act"]][:clients], said["seconds"])
            print(json.dumps((done * UNDER_WAY if said["act"] == "pipeline" else done, seconds, processor)), flush=True)


def turn(acts: Sequence[Act], seconds: float) -> tuple[int, float, float]:
    """Let clients act at the same time, each once and again until its time is over; returns how often they did, in how many seconds, and processor seconds."""
    counts = [0] * len(acts)
    begin = threading.Barrier(len(acts) + 1)

    def run(client: int) -> None:
        act = acts[client]
        begin.wait()
        end = time.perf_counter() + seconds
        while not counts[client] or time.perf_counter() < end:
            act()
            counts[client] += 1

    threads = [threading.Thread(target=run, args=(client,)) for client in range(len(acts))]
    for each in threads:
        each.start()
    begin.wait()
    began, spent = time.perf_counter(), time.process_time()
    for each in threads:
        each.join()
    return sum(counts), time.perf_counter() - began, time.process_time() - spent


def _step(engine: Engine) -> Act:
    """Return an acknowledged manual step of a case of its own."""
    case = engine.create_case(f"ring{TASKS}", start=True)
    place = 0

    def step() -> None:
        nonlocal place
        case.complete_task(f"t{place}")
        place = (place + 1) % TASKS

    return step


def _pipeline(engine: Engine) -> Act:
    """Return acknowledged manual steps of as many cases, each of which a pipeline has under way at the same time."""
    cases = [engine.create_case(f"ring{TASKS}", start=True) for _ in range(UNDER_WAY)]
    place = 0

    def steps() -> None:
        nonlocal place
        for outcome in engine.pipeline([partial(case.complete_task, f"t{place}") for case in cases]):
            outcome.result()
        place = (place + 1) % TASKS

    return steps


if __name__ == "__main__":
    main(*sys.argv[1:])
