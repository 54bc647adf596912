"""How clients spread calls over instances, what moves when one joins or leaves, and what a choice costs."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from benchmarks.measure import Benchmark, Figure, Scale, sample, spread
from knhk.client.balancing import BOUND, assign, consistent, least_connections, round_robin

KEYS: Final = 10_000
CALLERS: Final = 64
SLOWER: Final = 4.0
"""How much longer a call takes at the instance that is slow."""

_Choose = Callable[[Mapping[str, int], int], str]


def _names(count: int) -> list[str]:
    return [f"http://knhk-{number}:8080" for number in range(count)]


def balancing(scale: Scale) -> Iterator[Figure]:
    """10,000 keys by consistent hashing with bounded loads; 64 callers played on virtual time; a choice among 8 instances."""
    keys = [f"case-{number}" for number in range(KEYS)]
    for count in (2, 3, 4, 8, 16):
        names = _names(count)
        before, after = assign(names[:-1], keys), assign(names, keys)
        yield _share(f"consistent hashing, {count} instances: the fullest", Counter(after.values()), count)
        yield _moved(f"consistent hashing, {count - 1} to {count} instances: moved", before, after, count)
    for name, choose in _CHOICES.items():
        shares, calls = _played(choose, slow=False)
        yield _share(f"{name}, 4 like instances: the fullest", shares, 4)
        slow, fewer = _played(choose, slow=True)
        told = f"{100 * slow[_names(4)[0]] / fewer:.1f} % of the calls go to the slow one"
        yield Figure(
            f"{name}, one of 4 takes {SLOWER:g}x as long: calls done", 100 * fewer / calls, "% of all alike", told
        )
    loads = dict.fromkeys(_names(8), 3)
    for name, choose in _CHOICES.items():
        spent = sample(partial(_chosen, choose, loads), seconds=scale.seconds(0.3))
        yield Figure(f"{name}: a choice among 8 instances", min(spent) * 1e6, "us", spread(spent, factor=1e6))


def _chosen(choose: _Choose, loads: Mapping[str, int]) -> int:
    """Choose a hundred times."""
    for turn in range(100):
        choose(loads, turn)
    return 100


def _share(name: str, counts: Mapping[str, int], count: int) -> Figure:
    """Return how much the fullest instance has, beside an even share."""
    total = sum(counts.values())
    fullest = max(counts.values()) * count / total
    told = f"shares {100 * min(counts.values()) / total:.1f} % to {100 * max(counts.values()) / total:.1f} %"
    return Figure(name, fullest, "of an even share", told, f"<= {BOUND}", fullest <= BOUND)


def _moved(name: str, before: Mapping[str, str], after: Mapping[str, str], count: int) -> Figure:
    """Return which part of the keys has another instance after one has joined."""
    moved = sum(before[key] != after[key] for key in before) / len(before)
    most = 1 / count + 0.05
    return Figure(
        name,
        100 * moved,
        "% of the keys",
        f"an even share is {100 / count:.1f} %",
        f"<= {100 * most:.1f}",
        moved <= most,
    )


def _played(choose: _Choose, *, slow: bool) -> tuple[Counter[str], int]:
    """Let callers call without a rest for 1,000 times as long as a call takes; returns the calls done, by instance and in all."""
    chance = random.Random(1)  # noqa: S311 - the same play each time
    names = _names(4)
    pace = dict.fromkeys(names, 1.0)
    if slow:
        pace[names[0]] = SLOWER
    loads = dict.fromkeys(names, 0)
    done: Counter[str] = Counter()
    under_way: list[tuple[float, int, str]] = []
    turns = itertools.count()

    def begin(now: float) -> None:
        turn = next(turns)
        name = choose(loads, turn)
        loads[name] += 1
        # An instance shares itself out among its calls, as threads of one process do.
        length = chance.expovariate(1.0) * pace[name] * max(1.0, loads[name] / (CALLERS / len(names)))
        heapq.heappush(under_way, (now + length, turn, name))

    for _ in range(CALLERS):
        begin(0.0)
    while under_way[0][0] < 1_000:
        now, _, name = heapq.heappop(under_way)
        loads[name] -= 1
        done[name] += 1
        begin(now)
    return done, done.total()


def _key(turn: int) -> str:
    return f"case-{turn * 7919 % KEYS}"


_CHOICES: Final[Mapping[str, _Choose]] = {
    "round robin": lambda loads, turn: round_robin(tuple(loads), turn)[0],
    "least connections": lambda loads, turn: least_connections(loads, turn)[0],
    "consistent hashing": lambda loads, turn: consistent(loads, _key(turn))[0],
}

BENCHMARKS: Final[Mapping[str, Benchmark]] = {"balancing": balancing}
