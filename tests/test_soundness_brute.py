"""The verifier against brute force on random and on chosen nets, and its explorers against one another."""

from __future__ import annotations

import os
import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from soundness_oracle import Truth, Urgent, plain_net, random_net, truth

from knhk._hot import COMPILED
from knhk._kernel import Net
from knhk._tables import AND, OR, PARTIAL, XOR, TaskTable, Tables, build_tables
from knhk.analysis._reduction import reduces_to_nothing
from knhk.analysis._relation import Relation, free_choices, relation
from knhk.analysis._search import Meter, compiled_explorers, search
from knhk.analysis.soundness import read_off
from knhk.spec.verdict import Budget, NetVerdict, ProblemKind

COUNT = 3_000
PARTS = 12
REFERENCE = None


def drawn(seed: int) -> tuple[Tables, Urgent]:
    """A random net; in some all moves are urgent, in some a part of them, in most none."""
    rng = random.Random(seed)
    tables = random_net(rng)
    every = range(len(tables.table))
    sort = rng.random()
    if sort < 0.2:
        return tables, (frozenset(every), frozenset(every))
    if sort < 0.45:
        starts = frozenset(t for t in every if rng.random() < 0.5)
        return tables, (starts, frozenset(t for t in every if rng.random() < 0.4))
    return tables, (frozenset(), frozenset())


def decided(tables: Tables, net: Net, urgent: Urgent, compiled: Any, *, fuse: bool) -> NetVerdict:
    """What the verifier says."""
    return judged(related(tables, urgent, fuse=fuse), net, compiled)


def judged(rules: Relation, net: Net, compiled: Any) -> NetVerdict:
    """What the verifier says of a relation."""
    meter = Meter(Budget(states=1_500, seconds=600))
    return read_off("", rules, search(rules, net, meter, compiled=compiled))


def related(tables: Tables, urgent: Urgent, *, fuse: bool) -> Relation:
    """What may happen in the net."""
    choices = free_choices(tables)
    return relation(tables, choices, fuse=fuse, urgent_starts=urgent[0], urgent_completions=urgent[1])


def expected_kinds(known: Truth) -> set[ProblemKind]:
    """The properties that do not hold."""
    found = {
        ProblemKind.OPTION_TO_COMPLETE: known.doomed is not None,
        ProblemKind.IMPROPER_COMPLETION: known.improper is not None,
        ProblemKind.DEAD_TASK: bool(known.dead),
    }
    return {kind for kind, is_so in found.items() if is_so}


def agree(verdict: NetVerdict, known: Truth, tables: Tables) -> None:
    """The verdict says what is so, property by property."""
    dead = {each.element for each in verdict.problems if each.kind is ProblemKind.DEAD_TASK}

    assert {each.kind for each in verdict.problems} == expected_kinds(known)
    assert verdict.verdict == ("unsound" if expected_kinds(known) else "sound")
    assert dead == {tables.tasks[each] for each in known.dead}
    assert verdict.bound == known.bound


def lengths(verdict: NetVerdict) -> dict[ProblemKind, int]:
    """How long the counterexamples are."""
    return {each.kind: len(each.trace) for each in verdict.problems if each.trace}


# What a task takes, puts and else: by one letter a condition, `i` the input condition and `o` the output condition.
Drawing = dict[str, tuple[str, str, dict[str, Any]]]


def net_of(drawing: Drawing) -> Tables:
    """The net in numbers."""
    inner = sorted({letter for takes, puts, _ in drawing.values() for letter in takes + puts} - {"i", "o"})
    numbers = {letter: number for number, letter in enumerate(["i", "o", *inner])}
    table = []
    for takes, puts, rest in drawing.values():
        spans = {
            name: tuple(numbers[c] for c in rest[name]) for name in ("reads", "cancels_conditions") if name in rest
        }
        inputs, outputs = (tuple((numbers[c], 1) for c in each) for each in (takes, puts))
        given = {"join": AND, "split": AND, **rest, **spans}
        table.append(TaskTable(inputs=inputs, outputs=outputs, **given))
    return build_tables(conditions=tuple(numbers), tasks=tuple(drawing), table=tuple(table))


# In each net `t` could be fused but for one other task, and somebody sees that it has started before it completes.
NOT_FUSED: dict[str, tuple[Drawing, str]] = {  # with the tasks that start urgently
    # Condition 2.  While t runs, x finds nothing to empty, and the net ends around the running task.
    "another task empties an input": (
        {"s": ("i", "pq", {}), "t": ("p", "p", {}), "x": ("q", "o", {"cancels_conditions": "p"})},
        "",
    ),
    # Condition 3.  While t runs, x takes q and leaves p to come: only so does y find both p and r.
    "an XOR-join takes by what is there": (
        {"s": ("i", "pq", {}), "t": ("p", "p", {}), "x": ("pq", "r", {"join": XOR}), "y": ("pr", "o", {})},
        "",
    ),
    # Condition 3.  While t runs, x takes q alone, and the net ends around the running task.
    "a partial join takes by what is there": (
        {"s": ("i", "pq", {}), "t": ("p", "p", {}), "x": ("pq", "o", {"join": PARTIAL, "required": 1})},
        "",
    ),
    # Condition 4.  Once t has started u cannot, so j waits for b no longer and starts before t cancels a.
    "an OR-join waits for a task that takes the same": (
        {
            "s": ("i", "pa", {}),
            "t": ("p", "c", {"cancels_conditions": "a"}),
            "u": ("p", "b", {}),
            "j": ("ab", "d", {"join": OR}),
            "z": ("cd", "o", {}),
        },
        "",
    ),
    "an OR-join waits for a task that reads the same": (
        {
            "s": ("i", "paq", {}),
            "t": ("p", "c", {"cancels_conditions": "a"}),
            "u": ("q", "b", {"reads": "p"}),
            "j": ("ab", "d", {"join": OR}),
            "z": ("cdq", "o", {}),
        },
        "",
    ),
    # Condition 4.  While t runs neither the urgent u nor the urgent k can start when q comes, and w can.
    "an urgent task takes the same": (
        {
            "s": ("i", "pe", {}),
            "t": ("p", "c", {}),
            "v": ("e", "q", {}),
            "u": ("pq", "o", {}),
            "w": ("q", "d", {}),
            "k": ("cq", "o", {}),
            "z": ("cd", "o", {}),
        },
        "uk",
    ),
    "an urgent task reads the same": (
        {
            "s": ("i", "pe", {}),
            "t": ("p", "c", {}),
            "v": ("e", "q", {}),
            "u": ("q", "o", {"reads": "p"}),
            "w": ("q", "d", {}),
            "k": ("cq", "o", {}),
            "z": ("cd", "o", {}),
        },
        "uk",
    ),
}


def not_fused(name: str) -> tuple[Tables, Urgent, int]:
    """The net, its urgent tasks, and the task that must not be fused."""
    drawing, starts = NOT_FUSED[name]
    tables = net_of(drawing)
    return tables, (frozenset(map(tables.tasks.index, starts)), frozenset()), tables.tasks.index("t")


@pytest.mark.parametrize("compiled", [compiled_explorers(), REFERENCE], ids=["compiled", "reference"])
@pytest.mark.parametrize("name", NOT_FUSED)
def test_a_task_whose_start_is_seen_is_not_fused(name: str, compiled: Any) -> None:
    """Where a condition of fusion matters the verdict is what brute force finds."""
    tables, urgent, _ = not_fused(name)
    net = Net(tables)
    known = truth(net, urgent=urgent)

    assert known is not None
    agree(decided(tables, net, urgent, compiled, fuse=True), known, tables)


@pytest.mark.parametrize("name", NOT_FUSED)
def test_fused_all_the_same_it_would_change_the_verdict(name: str) -> None:
    """Each of these nets needs its condition: with the task fused the verdict is another one."""
    tables, urgent, task = not_fused(name)
    net = Net(tables)
    rules = related(tables, urgent, fuse=True)
    wrong = attrs.evolve(rules, fused=rules.fused | {task})

    verdicts = [judged(each, net, compiled_explorers()) for each in (rules, wrong)]

    found = [{(each.kind, each.element) for each in verdict.problems} for verdict in verdicts]
    assert task not in rules.fused
    assert found[0] != found[1]


@pytest.mark.parametrize("part", range(PARTS))
def test_verdicts_are_those_of_brute_force(part: int) -> None:
    """On random nets every property, the bound and the length of the shortest counterexamples are what brute force finds."""
    counts: Counter[str] = Counter()
    for seed in range(part * COUNT // PARTS, (part + 1) * COUNT // PARTS):
        tables, urgent = drawn(seed)
        net = Net(tables, or_join_budget=1_000)
        known = truth(net, most=400, tokens=4, urgent=urgent)
        if known is None:
            counts["too large"] += 1
            continue
        apart = decided(tables, net, urgent, compiled_explorers(), fuse=False)
        shortest = {
            ProblemKind.OPTION_TO_COMPLETE: known.doomed if known.stuck is None else known.stuck,
            ProblemKind.IMPROPER_COMPLETION: known.improper,
        }
        agree(apart, known, tables)
        agree(decided(tables, net, urgent, compiled_explorers(), fuse=True), known, tables)
        assert apart.states == known.states
        assert all(shortest[kind] == length or not length for kind, length in lengths(apart).items())
        if reduces_to_nothing(related(tables, urgent, fuse=False), lambda: False):
            counts["reduced"] += 1
            assert (expected_kinds(known), known.bound) == (set(), 1)
        counts[apart.verdict] += 1
    assert min(counts["sound"], counts["unsound"], counts["reduced"]) > 0
    assert counts["too large"] < COUNT / PARTS / 4


@pytest.mark.skipif(not COMPILED and os.environ.get("CI") != "true", reason="the compiled explorer is not built")
@pytest.mark.parametrize("part", range(4))
def test_the_compiled_explorer_is_the_reference_explorer(part: int) -> None:
    """On random nets both say the same, states, traces and undecided nets included."""
    for seed in range(10_000 + 60 * part, 10_060 + 60 * part):
        tables, urgent = drawn(seed)
        net = Net(tables, or_join_budget=1_000)
        for fuse in (True, False):
            compiled = decided(tables, net, urgent, compiled_explorers(), fuse=fuse)
            if not any("budget of" in reason for reason in compiled.reasons):
                assert decided(tables, net, urgent, REFERENCE, fuse=fuse) == compiled


def test_the_reference_explorer_agrees_with_brute_force() -> None:
    """Without a compiler the verdicts are the same."""
    for seed in range(20_000, 20_080):
        tables, urgent = drawn(seed)
        net = Net(tables, or_join_budget=1_000)
        known = truth(net, most=200, tokens=4, urgent=urgent)
        if known is not None:
            agree(decided(tables, net, urgent, REFERENCE, fuse=True), known, tables)


def test_what_reduces_to_nothing_is_sound_and_safe() -> None:
    """On random nets of AND and XOR alone, urgent or not, the reduction claims nothing that brute force does not find."""
    reduced = 0
    for seed in range(4_000):
        rng = random.Random(seed)
        tables = plain_net(rng)
        urgent = frozenset(t for t in range(len(tables.table)) if rng.random() < 0.3)
        if reduces_to_nothing(related(tables, (urgent, urgent), fuse=False), lambda: False):
            reduced += 1
            known = truth(Net(tables), urgent=(urgent, urgent))
            assert known is not None
            assert (expected_kinds(known), known.bound) == (set(), 1)
    assert reduced > 100


def test_the_drawn_nets_have_everything() -> None:
    """OR-joins, partial joins of both kinds, cancellation, reads, weights, draining and detached tasks occur often enough."""
    counts: Counter[str] = Counter()
    for seed in range(COUNT):
        tables, _ = drawn(seed)
        seen = SimpleNamespace(tables=tables)
        for name, has in {
            "or": bool(tables.or_joins),
            "partial": any(seen.tables.swallowers),
            "cancelling": any(each.join_cancels for each in tables.table),
            "cancels": any(each.cancels_conditions or each.cancels_tasks for each in tables.table),
            "reads": any(each.reads for each in tables.table),
            "weights": any(weight > 1 for each in tables.table for _, weight in (*each.inputs, *each.outputs)),
            "continues": any(each.continues for each in tables.table),
            "detached": any(each.detached for each in tables.table),
            "implicit": tables.implicit,
        }.items():
            counts[name] += has
    assert min(counts.values()) >= 50, counts
