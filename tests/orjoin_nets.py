"""Small nets with an OR-join, written as text, and what is decided about them."""

from __future__ import annotations

import attrs

from knhk._orjoin import DEFAULT_BUDGET, UNDECIDED, OrJoinAnalysis
from knhk._tables import AND, OR, PARTIAL, XOR, Tables, TaskTable, build_tables
from tests.orjoin_oracle import BUSY, DRAINING, WAYS, Game, oracle

JOINS = {"and": AND, "xor": XOR, "or": OR}


@attrs.frozen
class Net:
    """A net whose OR-join under test is the task J, written as text: ``"a b*2 -> c"`` is a task's flow."""

    tables: Tables
    conditions: tuple[str, ...]
    tasks: tuple[str, ...]

    def state(self, tokens: str, *, running: str = "", draining: str = "", seen: dict[str, str] | None = None) -> Game:
        game = Game(self.tables, [0] * len(self.conditions), [0] * len(self.tasks), [0] * len(self.tasks))
        for condition, count in arcs(tokens, self.conditions):
            game.tokens[condition] = count
        for name in running.split():
            game.status[self.tasks.index(name)] = BUSY
        for name in draining.split():
            game.status[self.tasks.index(name)] = DRAINING
        for name, come in (seen or {}).items():
            number = self.tasks.index(name)
            inputs = [self.conditions[condition] for condition, _ in self.tables.table[number].inputs]
            game.seen[number] = sum(1 << inputs.index(each) for each in come.split())
        return game


def arcs(text: str, conditions: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    pairs = [each.partition("*") for each in text.split()]
    return tuple((conditions.index(name), int(count or 1)) for name, _, count in pairs)


def net(**tasks: dict[str, object] | str) -> Net:
    """Build a net from ``name={"flow": "a -> b", "join": ..., "split": ..., "reads": "c", "cancels": "a T", ...}``."""
    described = {name: {"flow": each} if isinstance(each, str) else each for name, each in tasks.items()}
    names: dict[str, None] = {"i": None, "o": None}
    for each in described.values():
        for word in f"{each['flow']} {each.get('reads', '')}".replace("->", " ").split():
            names[word.partition("*")[0]] = None
    conditions, numbers = tuple(names), tuple(described)
    table = []
    for each in described.values():
        rest = dict(each)
        inputs, outputs = (arcs(side, conditions) for side in str(rest.pop("flow")).split("->"))
        join = rest.pop("join", "and")
        cancels, join_cancels = str(rest.pop("cancels", "")).split(), rest.pop("join_cancels", None)
        at_start = str(join_cancels or "").split()
        own = [condition for condition, _ in inputs] if join_cancels is not None else []
        table.append(
            TaskTable(
                join=JOINS[join] if isinstance(join, str) else PARTIAL,
                required=0 if isinstance(join, str) else join,
                split=JOINS[rest.pop("split", "and")],
                inputs=inputs,
                outputs=outputs,
                reads=tuple(conditions.index(name) for name in str(rest.pop("reads", "")).split()),
                cancels_conditions=tuple(conditions.index(name) for name in cancels if name in conditions),
                cancels_tasks=tuple(numbers.index(name) for name in cancels if name in numbers),
                join_cancels=join_cancels is not None,
                join_cancels_conditions=(*own, *(conditions.index(name) for name in at_start if name in conditions)),
                join_cancels_tasks=tuple(numbers.index(name) for name in at_start if name in numbers),
                **rest,
            )
        )
    return Net(build_tables(conditions=conditions, tasks=numbers, table=tuple(table)), conditions, numbers)


def verdict(of: Net, tokens: str, *, join: str = "J", budget: int = DEFAULT_BUDGET, **state: object) -> int:
    """Decide in a new analysis; whatever is decided, all searches and brute force must agree."""
    game = of.state(tokens, **state)
    number = of.tasks.index(join)
    analyses = [OrJoinAnalysis(of.tables, budget=budget, **way) for way in WAYS]
    # Twice: the first decision makes what decides by itself from then on.
    answers = [
        each.decide(number, game.tokens, game.status, dict(enumerate(game.seen))) for each in analyses for _ in "ab"
    ]
    answer = answers[0]
    assert {*answers} == {answer}
    if answer != UNDECIDED:
        assert oracle(game, number) in (answer, None)
    return answer
