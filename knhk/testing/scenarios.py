"""
Play scenario files through Specification, Engine and Case: ``python -m knhk.testing.scenarios FILE...``

The format is that of ``tests/data/patterns/README.md``.
Every atomic task without a timer becomes a manual one, so that the script starts and completes it.
Each failure names the scenario, the step, what was expected and what came; the last line is ``N passed, N failed``, and the
exit status is 0 or 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from knhk._compiled import Kernel, choose_kernel
from knhk.engine import Engine
from knhk.errors import CommandError, DataError, KnhkError
from knhk.ports import Store
from knhk.running import RunningCase
from knhk.spec import Specification
from knhk.stores import open_store
from knhk.testing.clock import ManualClock

_EDGES = {"i": "start", "o": "end"}
_REFUSALS = (CommandError, DataError)
_LANGUAGE_BOUND = 20_000
"""States that the search for a scenario's language may visit; beyond it the scenario fails, saying so."""


class ScenarioFailure(Exception):
    """A step did not come out as the scenario says."""


def specification_of(net: Mapping[str, Any], spec_id: str) -> Specification:
    """Translate a scenario's net into a specification."""
    tree = {"id": spec_id, **_net(net)}
    subnets = net.get("subnets")
    if subnets:
        tree["subnets"] = {name: _net(each) for name, each in subnets.items()}
    return Specification.from_dict(tree)


def _net(net: Mapping[str, Any]) -> dict[str, Any]:
    taken = {*net["tasks"], *net.get("conditions", ())}
    names = {name: name for name in taken}
    names.update(_EDGES)
    return {
        "tasks": [_task(name, task) for name, task in net["tasks"].items()],
        "conditions": list(net.get("conditions", ())),
        "flows": [_flow(flow, names) for flow in net["flows"]],
        "termination": net.get("termination", "explicit"),
    }


def _task(name: str, task: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {"id": name}
    tree.update({key: task[key] for key in ("join", "split", "subnet", "trigger") if key in task})
    if "cancel" in task:
        tree["cancels"] = [_EDGES.get(each, each) for each in task["cancel"]]
    if isinstance(tree.get("join"), dict) and "cancels" in tree["join"]:
        tree["join"] = {**tree["join"], "cancels": [_EDGES.get(each, each) for each in tree["join"]["cancels"]]}
    if "reads" in task:
        tree["reads"] = [_EDGES.get(each, each) for each in task["reads"]]
    if "timer" in task:
        tree["timer"] = f"{task['timer']}s"
    elif "subnet" not in task:
        tree["manual"] = {}
    if "mi" in task:
        tree["multiple"] = _multiple(task["mi"])
    return tree


def _multiple(mi: Mapping[str, Any]) -> dict[str, Any]:
    count = mi.get("count", mi.get("min", 1))
    tree: dict[str, Any] = {"count": _variable(count) if isinstance(count, str) else count}
    for theirs, ours in (("min", "minimum"), ("max", "maximum"), ("create", "creation"), ("remaining", "remaining")):
        if theirs in mi:
            tree[ours] = mi[theirs]
    if "threshold" in mi:
        tree["threshold"] = mi["threshold"]
    if "until" in mi:
        tree["until"] = _predicate(mi["until"], counters=("completed", "created"))
    if mi.get("sync") is False:
        tree["detached"] = True
    return tree


def _flow(flow: Sequence[Any], names: Mapping[str, str]) -> dict[str, Any]:
    options = flow[2] if len(flow) > 2 else {}
    tree: dict[str, Any] = {"from": names.get(flow[0], flow[0]), "to": names.get(flow[1], flow[1])}
    if "when" in options:
        tree["when"] = _predicate(options["when"])
    if options.get("default"):
        tree["default"] = True
    if "n" in options:
        tree["weight"] = options["n"]
    return tree


def _variable(name: str) -> str:
    return f"data[{json.dumps(name)}]"


def _predicate(triple: Sequence[Any], counters: Sequence[str] = ()) -> str:
    variable, operator, constant = triple
    right = json.dumps(constant)
    if variable in counters:
        return f"{variable} {operator} {right}"
    left = _variable(variable)
    known = f"{json.dumps(variable)} in data"
    # A variable that was set to null counts as unset, unless the net asks for null itself.
    there = known if constant is None else f"{known} && {left} != null"
    return f"{there} && {left} {operator} {right}"


class Player:
    """Plays one scenario's scripts and traces, each on a fresh case of one engine."""

    def __init__(
        self, scenario: Mapping[str, Any], *, store: Store, evict: bool, trace: bool, kernel: Kernel = "auto"
    ) -> None:
        self._scenario = scenario
        self._clock = ManualClock()
        self._engine = Engine(store, clock=self._clock, kernel=kernel)
        self._evict = evict
        self._trace = trace
        self._spec_id = f"scenario-{scenario['id']}".replace(" ", "-")
        specification = specification_of(scenario["net"], self._spec_id)
        self._multiple = {t.id for net in specification.nets().values() for t in net.tasks if t.multiple is not None}
        self._engine.register(specification)

    def play(self) -> None:
        """Play everything the scenario holds; raises ScenarioFailure at the first difference."""
        self._script()
        for trace in self._scenario.get("accept", ()):
            if not self._accepts(trace):
                message = f"trace {trace} should be accepted"
                raise ScenarioFailure(message)
        for trace in self._scenario.get("reject", ()):
            if self._accepts(trace):
                message = f"trace {trace} should be rejected"
                raise ScenarioFailure(message)
        if "language" in self._scenario:
            self._language({tuple(word) for word in self._scenario["language"]})

    def _fresh(self) -> RunningCase:
        case = self._engine.create_case(self._spec_id)
        case.start()
        return case

    def _script(self) -> None:
        case = self._fresh()
        for number, step in enumerate(self._scenario["script"], 1):
            try:
                self._step(case, step)
            except ScenarioFailure as failure:
                message = f"step {number} {json.dumps(step)}: {failure}"
                raise ScenarioFailure(message) from failure
            if self._evict:
                self._engine.evict()
            if self._trace:
                print(json.dumps({"scenario": self._scenario["id"], "step": number, **self._view(case)}))

    def _view(self, case: RunningCase) -> dict[str, Any]:
        return {"enabled": case.enabled, "running": case.running, "outcome": _outcome(case.state)}

    def _step(self, case: RunningCase, step: Mapping[str, Any]) -> None:
        if "do" in step:
            before = {**self._view(case), "data": case.data} if step.get("refused") else None
            refusal = self._act(case, step)
            if before is None and refusal is not None:
                message = f"was refused: {refusal}"
                raise ScenarioFailure(message)
            if before is not None and refusal is None:
                message = "should be refused and was not"
                raise ScenarioFailure(message)
            if before is not None and before != {**self._view(case), "data": case.data}:
                message = f"was refused and yet changed the case from {before}"
                raise ScenarioFailure(message)
        for key, got in self._view(case).items():
            expected = step.get(f"expect_{key}")
            if expected is not None and (sorted(expected) if isinstance(expected, list) else expected) != got:
                message = f"expected {key} {expected}, got {got}"
                raise ScenarioFailure(message)

    def _act(self, case: RunningCase, step: Mapping[str, Any]) -> KnhkError | None:
        action, task = step["do"], step.get("task", "")
        try:
            if action == "advance":
                self._clock.advance(step["by"] * 1000)
                self._engine.tick()
            elif action == "event":
                case.send_event(step["name"], step.get("data"))
            elif action == "cancel_case":
                case.cancel()
            elif action == "complete":
                case.complete_task(task, step.get("data"))
            else:
                commands = {
                    "start": case.start_task,
                    "cancel": case.cancel_task,
                    "add_instance": case.add_instance,
                    "close_instances": case.close_instances,
                    "complete_mi": case.complete_instances,
                }
                commands[action](task)
        except _REFUSALS as error:
            return error
        return None

    def _accepts(self, trace: Sequence[Any]) -> bool:
        case = self._fresh()
        for each in trace:
            name, data = (each, None) if isinstance(each, str) else (each["task"], each.get("data"))
            try:
                self._start_instances(case, name)
                case.complete_task(name, data)
            except _REFUSALS:
                return False
            if self._evict:
                self._engine.evict()
        return case.state == "completed"

    def _start_instances(self, case: RunningCase, name: str) -> None:
        """A trace names instances; the task that creates them is started when it is still only offered."""
        task, _, instance = name.rpartition("#")
        if instance and name not in case.running and task in case.enabled:
            case.start_task(task)

    # --- language -----------------------------------------------------------------------------------------------------

    def _language(self, expected: set[tuple[str, ...]]) -> None:
        got: set[tuple[str, ...]] = set()
        longest = max(map(len, expected), default=0)
        seen: set[tuple[tuple[str, ...], str]] = set()
        pending: list[tuple[tuple[str, str], ...]] = [()]
        while pending:
            moves = pending.pop()
            case = self._fresh()
            for action, task in moves:
                (case.start_task if action == "start" else case.complete_task)(task)
            word = tuple(task for action, task in moves if action == "complete")
            key = (word, json.dumps([self._view(case), sorted(moves)]))
            if key in seen:
                continue
            seen.add(key)
            if case.state == "completed":
                got.add(word)
            elif len(word) > longest:
                message = f"the case goes on behind {word}, which is longer than any word of the language"
                raise ScenarioFailure(message)
            else:
                pending.extend(self._moves(case, moves))
            if len(seen) > _LANGUAGE_BOUND:
                message = f"the language has more than {_LANGUAGE_BOUND} states"
                raise ScenarioFailure(message)
        if got != expected:
            message = f"language: missing {sorted(expected - got)}, too many {sorted(got - expected)}"
            raise ScenarioFailure(message)

    def _moves(self, case: RunningCase, moves: tuple[tuple[str, str], ...]) -> Iterator[tuple[tuple[str, str], ...]]:
        for task in case.enabled:
            yield (*moves, ("start", task))
        for task in case.running:
            yield (*moves, ("complete", task))


def _outcome(state: str) -> str:
    return {"deadlocked": "deadlock", "created": "running", "suspended": "running"}.get(state, state)


def _store(name: str) -> str:
    if name not in {"memory", "sqlite"} and "://" not in name:
        raise argparse.ArgumentTypeError(f"{name!r} is neither memory nor sqlite nor the URL of a store")
    return name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m knhk.testing.scenarios", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--kernel",
        choices=("auto", "reference", "compiled"),
        default="auto",
        help="the compiled one where it was built, if not named",
    )
    parser.add_argument("--store", type=_store, default="memory", help="memory, sqlite, or the URL of a store")
    parser.add_argument("--evict", action="store_true", help="evict the case and load it again after every step")
    parser.add_argument("--json", action="store_true", help="print enabled, running and outcome after each step")
    options = parser.parse_args(arguments)
    try:
        choose_kernel(options.kernel)
    except KnhkError as error:
        parser.error(str(error))
    try:
        scenarios = [each for file in options.files for each in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError) as error:
        parser.error(f"cannot read the scenarios: {error}")
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        known = {"memory": "memory:", "sqlite": str(Path(folder, "scenarios.db"))}
        url = known.get(options.store, options.store)
        store = open_store(url, durability="off")
        for scenario in scenarios:
            try:
                Player(scenario, store=store, evict=options.evict, trace=options.json, kernel=options.kernel).play()
            except (ScenarioFailure, KnhkError) as failure:
                failed += 1
                print(f"FAILED {scenario['id']} {scenario.get('title', '')}: {failure}")
            else:
                passed += 1
        store.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
