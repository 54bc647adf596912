"""KNHK against a second, naive interpreter of the rules (`tests.naive_game`), on random nets and random scripts.

Run as a script it compares more nets: ``python -m tests.test_naive_game [nets] [seed]``; what differs is printed as a
scenario, made small.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from knhk.limits import Limits
from knhk.engine import Engine
from knhk.errors import CommandError, DataError, InternalError, LimitExceeded, SpecificationError
from knhk.testing.clock import ManualClock
from knhk.stores import MemoryStore
from knhk.testing.scenarios import Player, _outcome, specification_of
from tests import naive_game
from tests.naive_game import Game, Refused, Unknown, play

CASES = json.loads((Path(__file__).parent / "data" / "patterns" / "cases_public.json").read_text(encoding="utf-8"))
naive_game.CHOICES |= {"reads"}
naive_game.STOPS |= {"order", "trigger-cancel", "deadlock-command", "timer-cancel", "self-cancel"}
LIMITS = Limits(steps=60, instances=50, depth=8)
NETS = 400
VARIABLES = ("x", "y")

# --- random nets ------------------------------------------------------------------------------------------------------


def random_predicate(rng):
    """A predicate over a variable that may be unset."""
    return [rng.choice(VARIABLES), rng.choice(["==", "!=", "<", "<=", ">", ">="]), rng.randrange(3)]


def random_multiple(rng):
    """The attributes of a multiple instance task, in all combinations that make sense."""
    mi = {"count": rng.choice([0, 1, 2, 2, 3, 3, "n"])}
    if rng.random() < 0.2:
        return {**mi, "sync": False}
    if mi["count"] == "n" and rng.random() < 0.5:
        mi |= {"min": 1, "max": 4}
    if rng.random() < 0.4:
        mi |= {"create": "dynamic", "max": 4}
    draw = rng.random()
    if draw < 0.3:
        mi["threshold"] = rng.randint(1, 3)
    elif draw < 0.6:
        mi["until"] = rng.choice([["completed", ">=", 2], ["created", ">", 2], ["x", "==", 1], ["y", ">", 0]])
    if rng.random() < 0.5:
        mi["remaining"] = rng.choice(["cancel", "continue"])
    return mi


class NetMaker:
    """Makes one random net: blocks with loops and choices, and then arcs, weights, reads and regions at random."""

    def __init__(self, rng, subnets, size):
        self.rng, self.subnets, self.size = rng, subnets, size
        self.tasks, self.conditions, self.flows = {}, [], []

    def task(self):
        name = chr(ord("A") + len(self.tasks))
        self.tasks[name] = {}
        return name

    def condition(self):
        name = f"p{len(self.conditions)}"
        self.conditions.append(name)
        return name

    def flow(self, source, target):
        if [source, target] not in [flow[:2] for flow in self.flows]:
            self.flows.append([source, target])

    def link(self, source, target):
        """Join two tasks, directly or by a condition; other ends are joined directly."""
        if source in self.tasks and target in self.tasks and self.rng.random() < 0.6:
            middle = self.condition()
            self.flow(source, middle)
            self.flow(middle, target)
        else:
            self.flow(source, target)

    def block(self, budget):
        """A block of tasks: (first task, last task)."""
        rng = self.rng
        kind = rng.choice(["sequence", "parallel", "loop", "choice", "task"])
        if budget < 2 or kind == "task":
            name = self.task()
            return name, name
        if kind == "sequence":
            cut = rng.randint(1, budget - 1)
            a, b = self.block(cut), self.block(budget - cut)
            self.link(a[1], b[0])
            return a[0], b[1]
        if kind == "loop":
            a = self.block(budget - 1)
            back = self.task()
            self.link(a[1], back)
            self.link(back, a[0])
            return a
        first, last = self.task(), self.task()
        branches = [self.block(max(1, (budget - 2) // 2)) for _ in range(rng.choice([2, 2, 3]))]
        if kind == "choice" and rng.random() < 0.6:
            place = self.condition()
            self.flow(first, place)
            for branch in branches:
                self.flow(place, branch[0])
        else:
            for branch in branches:
                self.link(first, branch[0])
        for branch in branches:
            self.link(branch[1], last)
        return first, last

    def structured(self):
        first, last = self.block(self.size)
        self.link("i", first)
        self.link(last, "o")
        for _ in range(self.rng.choice([0, 0, 1, 1, 2, 3])):
            self.anything()

    def anything(self):
        """One more arc, anywhere."""
        rng, tasks = self.rng, list(self.tasks)
        if rng.random() < 0.5:
            self.flow(rng.choice(tasks), rng.choice([*self.conditions, "o", *tasks]))
        elif self.conditions:
            self.flow(rng.choice(self.conditions), rng.choice(tasks))

    def flat(self):
        rng = self.rng
        names = [self.task() for _ in range(self.size)]
        places = [self.condition() for _ in range(rng.randint(2, 5))]
        for number, name in enumerate(names):
            sources = rng.sample(["i", *places] if number == 0 else places, rng.choice([1, 1, 2, min(3, len(places))]))
            if number == 0 and "i" not in sources:
                sources[0] = "i"
            for source in sources:
                self.flow(source, name)
            for target in rng.sample([*places, "o", *places], rng.choice([1, 1, 2, 2, 3])):
                self.flow(name, target)
        for _ in range(rng.choice([0, 1])):
            self.anything()

    def decorate(self):
        rng = self.rng
        implicit = [f"{a}>{b}" for a, b in self.flows if a in self.tasks and b in self.tasks]
        elements = [*self.conditions, *implicit, *self.tasks]
        listened = set()
        for name, task in self.tasks.items():
            inputs = [flow for flow in self.flows if flow[1] == name]
            outputs = [flow for flow in self.flows if flow[0] == name]
            if len(inputs) > 1:
                kind = rng.choice(["and", "xor", "xor", "or", "or", "or", "partial", "partial"])
                task["join"] = {"partial": rng.randint(1, len(inputs))} if kind == "partial" else kind
                if kind == "partial" and rng.random() < 0.35:
                    task["join"]["cancels"] = rng.sample(elements, min(len(elements), rng.randint(0, 3)))
            if len(outputs) > 1:
                task["split"] = rng.choice(["and", "and", "xor", "or"])
                if task["split"] != "and":
                    default = rng.choice(outputs) if rng.random() < 0.85 else None
                    for flow in outputs:
                        flow.append({"default": True} if flow is default else {"when": random_predicate(rng)})
            for flow in (*inputs, *outputs):
                heavy = 0.06 if flow[0] == name else 0.03 if flow[0] != "i" and flow[0] not in self.tasks else 0
                if rng.random() < heavy:
                    flow[2:] = [{**(flow[2] if len(flow) > 2 else {}), "n": rng.choice([2, 2, 3])}]
            if rng.random() < 0.15:
                task["cancel"] = rng.sample(elements, min(len(elements), rng.randint(1, 3)))
            if rng.random() < 0.06:
                task["reads"] = rng.sample([*self.conditions, *implicit, "i"], 1)
            self.work(name, task, inputs, listened)

    def work(self, name, task, inputs, listened):
        rng = self.rng
        at_start = any(flow[0] == "i" for flow in inputs)
        if self.subnets and rng.random() < 0.2:
            subnet = rng.choice(self.subnets)
            if not (at_start and self.nested):
                task["subnet"] = subnet
        if rng.random() < (0.25 if "subnet" in task else 0.15):
            task["mi"] = random_multiple(rng)
        draw = rng.random()
        event = rng.choice(["e", "f"])
        if draw < 0.1 and event not in listened:
            listened.add(event)
            task["trigger"] = {"event": event, "mode": rng.choice(["transient", "persistent"])}
        elif draw < 0.2 and ("subnet" in task or "mi" not in task):
            task["timer"] = rng.randint(1, 4)

    def make(self, *, nested):
        self.nested = nested
        if self.rng.random() < 0.6:
            self.structured()
        else:
            self.flat()
        self.decorate()
        net = {"tasks": self.tasks, "conditions": self.conditions, "flows": self.flows}
        if self.rng.random() < 0.45:
            net["termination"] = "implicit"
        return net


def random_net(rng):
    """A random net with up to two subnets, recursion included."""
    subnets = rng.choice([[], [], ["r"], ["r", "s"]])
    net = NetMaker(rng, subnets, rng.randint(3, 8)).make(nested=False)
    if subnets:
        net["subnets"] = {name: NetMaker(rng, subnets, rng.randint(1, 4)).make(nested=True) for name in subnets}
    return net


# --- random scripts ---------------------------------------------------------------------------------------------------


def random_data(rng):
    """Data for an action, or none."""
    if rng.random() < 0.5:
        return {}
    data = {name: rng.randrange(3) for name in VARIABLES if rng.random() < 0.7}
    if rng.random() < 0.4:
        data["n"] = rng.choice([0, 1, 2, 2, 3, 5])
    return {"data": data}


def random_step(rng, game):
    """A step that fits the state, mostly; and any other, sometimes."""
    paths = [path + task for instance, path, _ in game.walk() for task in instance.net.tasks] or ["A"]
    multiple = [path + task for inst, path, _ in game.walk() for task in inst.net.tasks if "mi" in inst.net.tasks[task]]
    enabled, running = game.enabled(), game.running()
    draw = rng.random()
    if not (enabled or running) and rng.random() < 0.85:
        draw *= 0.16
    if draw < 0.08:
        return {"do": "event", "name": rng.choice(["e", "e", "f", "f", "none"])}
    if draw < 0.16:
        return {"do": "advance", "by": rng.randint(1, 5)}
    if draw < 0.22:
        return {"do": "cancel", "task": rng.choice(paths)}
    if draw < 0.3 and multiple:
        command = rng.choice(["add_instance", "add_instance", "close_instances", "complete_mi"])
        active = [path for path in multiple if any(each.startswith(f"{path}#") for each in [*running, *paths])]
        return {"do": command, "task": rng.choice(active if active and rng.random() < 0.9 else multiple)}
    if draw < 0.303:
        return {"do": "cancel_case"}
    if draw < 0.36 or not (enabled or running):
        path = rng.choice(paths)
        if rng.random() < 0.2:
            path += f"#{rng.randint(1, 4)}"
        do = rng.choice(["start", "complete", "complete", "add_instance", "complete_mi"])
        return {"do": do, "task": path, **(random_data(rng) if do == "complete" else {})}
    task = rng.choice([*enabled, *running])
    if task in enabled and (rng.random() < 0.35 or (task in multiple and rng.random() < 0.95)):
        return {"do": "start", "task": task}
    return {"do": "complete", "task": task, **random_data(rng)}


# --- the two, side by side --------------------------------------------------------------------------------------------


class Knhk:
    """The engine, played by steps."""

    def __init__(self, net):
        self.clock = ManualClock()
        self.engine = Engine("memory:", clock=self.clock, limits=LIMITS)
        self.engine.register(specification_of(net, "net"))
        self.case = self.engine.create_case("net")
        self.case.start()

    def act(self, step):
        """Play an action; true when it was done."""
        case, do, task = self.case, step["do"], step.get("task")
        try:
            if do == "advance":
                self.clock.advance(step["by"] * 1000)
                self.engine.tick()
            elif do == "event":
                case.send_event(step["name"])
            elif do == "cancel_case":
                case.cancel()
            elif do == "complete":
                case.complete_task(task, step.get("data"))
            else:
                {
                    "start": case.start_task,
                    "cancel": case.cancel_task,
                    "add_instance": case.add_instance,
                    "close_instances": case.close_instances,
                    "complete_mi": case.complete_instances,
                }[do](task)
        except LimitExceeded as error:
            raise Unknown("limit", error) from error
        except (CommandError, DataError) as error:
            self.refusal = error
            return False
        return True

    def view(self):
        """What is compared."""
        if self.case.problems:
            raise Unknown("budget", self.case.problems)
        return {
            "enabled": self.case.enabled,
            "running": self.case.running,
            "outcome": _outcome(self.case.state),
            "data": self.case.data,
        }


def naive_view(game):
    """What is compared."""
    return {"enabled": game.enabled(), "running": game.running(), "outcome": game.outcome(), "data": game.data}


class Difference(Exception):
    """The two do not agree."""

    def __init__(self, kind, number, text):
        super().__init__(text)
        self.kind, self.number = kind, number


def compare(net, steps, tally):
    """Play steps (a list, or a function from the naive game to the next step) on both; raises Difference."""
    made = []
    try:
        game = Game(net)
        refused = False
    except Refused:
        refused = True
    try:
        theirs = Knhk(net)
    except LimitExceeded as error:
        raise Unknown("limit", error) from error
    except DataError as error:
        if refused:
            return made
        raise Difference("created", 0, f"the first start is refused by KNHK only: {error}") from error
    if refused:
        raise Difference("created", 0, "the first start is refused by the naive game only")
    over = 0
    for number in range(-1, len(steps) if isinstance(steps, list) else steps.length):
        step = None
        if number >= 0:
            over += game.outcome() != "running"
            if over > 3 and not isinstance(steps, list):
                break
            step = steps[number] if isinstance(steps, list) else steps(game)
            made.append(step)
            outcome = game.outcome()
            mine, its = game.act(step), None
            if mine and outcome == "deadlock" and step["do"] not in ("event", "advance", "cancel_case"):
                naive_game.stop("deadlock-command")
            try:
                its = theirs.act(step)
            except (InternalError, AssertionError, KeyError, IndexError) as error:
                raise Difference("internal", number, f"{step}: KNHK raises {error!r}") from error
            if mine != its:
                why = theirs.refusal if mine else ""
                text = f"{step}: {'done' if mine else 'refused'} by the naive game, not by KNHK {why}"
                raise Difference("refusal", number, text)
            tally["refused"] += not mine
            tally["steps"] += 1
        views = naive_view(game), theirs.view()
        for key, value in views[0].items():
            if value != views[1][key]:
                text = f"after {step}: {key}: naive {value}, KNHK {views[1][key]}"
                raise Difference(key, number, text)
    return made


class Steps:
    """A random script, written while it is played."""

    def __init__(self, rng, length):
        self.rng, self.length, self.made = rng, length, []

    def __call__(self, game):
        self.made.append(random_step(self.rng, game))
        return self.made[-1]


def run(seed, tally):
    """Compare one random net; return (net, steps, Difference) where they differ."""
    rng = random.Random(seed)
    while True:
        net = random_net(rng)
        try:
            specification_of(net, "net")
        except SpecificationError:
            tally["ill-formed"] += 1
            continue
        break
    tally["nets"] += 1
    steps = Steps(rng, rng.randint(15, 40))
    try:
        compare(net, steps, tally)
    except Unknown as unknown:
        tally[f"unknown: {unknown.point}"] += 1
    except Difference as difference:
        return net, steps.made, difference
    return None


# --- making differences small -----------------------------------------------------------------------------------------


def smaller(net, steps):
    """Everything that is one bit less."""
    for number in range(len(steps)):
        yield net, steps[:number] + steps[number + 1 :]
    for number, step in enumerate(steps):
        if "data" in step:
            yield net, [*steps[:number], {k: v for k, v in step.items() if k != "data"}, *steps[number + 1 :]]
            for name in step["data"]:
                less = {k: v for k, v in step["data"].items() if k != name}
                yield net, [*steps[:number], {**step, "data": less}, *steps[number + 1 :]]
    for other in smaller_nets(net):
        yield other, steps
    for name, sub in net.get("subnets", {}).items():
        for other in smaller_nets(sub):
            yield {**net, "subnets": {**net["subnets"], name: other}}, steps
    if "subnets" in net:
        for name in net["subnets"]:
            less = {k: v for k, v in net["subnets"].items() if k != name}
            yield {**{k: v for k, v in net.items() if k != "subnets"}, **({"subnets": less} if less else {})}, steps


def smaller_nets(net):
    """The net with an element, a flow or an attribute less."""
    for name in net["tasks"] if len(net["tasks"]) > 1 else ():
        tasks = {k: v for k, v in net["tasks"].items() if k != name}
        flows = [flow for flow in net["flows"] if name not in flow[:2]]
        yield tidy({**net, "tasks": tasks, "flows": flows})
        into = [flow[0] for flow in net["flows"] if flow[1] == name]
        out = [flow[1] for flow in net["flows"] if flow[0] == name]
        for a in into:
            for b in out:
                if (a in tasks or b in tasks) and [a, b] not in [flow[:2] for flow in flows]:
                    yield tidy({**net, "tasks": tasks, "flows": [*flows, [a, b]]})
    for name in net["conditions"]:
        flows = [flow for flow in net["flows"] if name not in flow[:2]]
        conditions = [each for each in net["conditions"] if each != name]
        yield tidy({**net, "conditions": conditions, "flows": flows})
        into = [flow for flow in net["flows"] if flow[1] == name]
        out = [flow for flow in net["flows"] if flow[0] == name]
        if len(into) == len(out) == 1:
            less = [flow for flow in flows if flow[:2] != [into[0][0], out[0][1]]]
            joined = [[into[0][0], out[0][1], *into[0][2:]]]
            yield tidy({**net, "conditions": conditions, "flows": less + joined})
    for number, flow in enumerate(net["flows"]):
        yield tidy({**net, "flows": net["flows"][:number] + net["flows"][number + 1 :]})
        if len(flow) > 2 and "n" in flow[2]:
            options = {k: v for k, v in flow[2].items() if k != "n"}
            yield tidy({**net, "flows": [*net["flows"][:number], [*flow[:2], options], *net["flows"][number + 1 :]]})
    for name, task in net["tasks"].items():
        for key, value in task.items():
            less = {k: v for k, v in task.items() if k != key}
            yield tidy({**net, "tasks": {**net["tasks"], name: less}})
            if key in ("join", "split") and value != "and":
                yield tidy({**net, "tasks": {**net["tasks"], name: {**task, key: "and"}}})
            if key in ("cancel", "reads") and len(value) > 1:
                for each in value:
                    rest = [other for other in value if other != each]
                    yield tidy({**net, "tasks": {**net["tasks"], name: {**task, key: rest}}})
            if isinstance(value, dict):
                for inner in value:
                    rest = {k: v for k, v in value.items() if k != inner}
                    yield tidy({**net, "tasks": {**net["tasks"], name: {**task, key: rest}}})
            if key == "mi" and value.get("count") not in (1, 2):
                for count in (1, 2):
                    yield tidy({**net, "tasks": {**net["tasks"], name: {**task, "mi": {**value, "count": count}}}})
    if "termination" in net:
        yield {k: v for k, v in net.items() if k != "termination"}


def tidy(net):
    """Leave out what no longer belongs: joins and splits of one, predicates of AND-splits, unknown elements."""
    tasks, flows = {}, []
    implicit = {f"{flow[0]}>{flow[1]}" for flow in net["flows"]}
    known = {*net["tasks"], *net["conditions"], *implicit, "i", "o"}
    outputs = Counter(flow[0] for flow in net["flows"])
    inputs = Counter(flow[1] for flow in net["flows"])
    for name, task in net["tasks"].items():
        task = dict(task)
        if inputs[name] < 2 and not isinstance(task.get("join"), dict):
            task.pop("join", None)
        if outputs[name] < 2:
            task.pop("split", None)
        for key in ("cancel", "reads"):
            if key in task:
                task[key] = [each for each in task[key] if each in known]
                if not task[key]:
                    del task[key]
        if isinstance(task.get("join"), dict) and "cancels" in task["join"]:
            task["join"] = {**task["join"], "cancels": [each for each in task["join"]["cancels"] if each in known]}
        tasks[name] = task
    for flow in net["flows"]:
        options = dict(flow[2]) if len(flow) > 2 else {}
        if tasks.get(flow[0], {}).get("split", "and") == "and":
            options.pop("when", None)
            options.pop("default", None)
        flows.append([*flow[:2], options] if options else flow[:2])
    return {**net, "tasks": tasks, "flows": flows}


def differs(net, steps, kind):
    """Whether the two still differ in the same way: the Difference, or None."""
    try:
        specification_of(net, "net")
        compare(net, steps, Counter())
    except Difference as difference:
        return difference if difference.kind == kind else None
    except (Unknown, SpecificationError, KeyError, ValueError, RecursionError):
        return None
    return None


def shrink(net, steps, difference):
    """Make a difference small, greedily."""
    steps = steps[: difference.number + 1]
    again, until = True, time.monotonic() + 15
    while again and time.monotonic() < until:
        again = False
        for candidate in smaller(net, steps):
            found = differs(*candidate, difference.kind)
            if found is not None:
                (net, steps), difference, again = candidate, found, True
                steps = steps[: difference.number + 1]
                break
    return net, steps, difference


def main(arguments):
    """Compare many nets; print each difference, made small."""
    nets, seed = int(arguments[0]) if arguments else 1000, int(arguments[1]) if len(arguments) > 1 else 0
    most = int(arguments[2]) if len(arguments) > 2 else 10
    tally, found = Counter(), 0
    for number in range(nets):
        result = run(f"{seed}.{number}", tally)
        if result is not None:
            found += 1
            if found <= most:
                net, steps, difference = shrink(*result)
                print(json.dumps({"id": f"{seed}.{number}", "kind": difference.kind, "net": net, "script": steps}))
                print("   ", difference, flush=True)
    print(dict(tally), f"differences: {found}")
    return 1 if found else 0


# --- tests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scenario", CASES, ids=lambda each: each["id"])
def test_the_naive_game_plays_the_public_scenarios(scenario):
    """The second interpreter plays each public scenario as written, traces and language included."""
    assert play(scenario) == []


@pytest.mark.parametrize("part", range(10))
def test_knhk_plays_random_nets_as_the_naive_game_does(part):
    """On random nets and scripts KNHK refuses, offers, runs, ends and stores what the naive interpreter does."""
    tally = Counter()
    for number in range(NETS // 10):
        result = run(f"ci.{part}.{number}", tally)
        if result is not None:
            net, steps, difference = shrink(*result)
            pytest.fail(f"{difference}\n{json.dumps({'net': net, 'script': steps})}")
    assert tally["steps"] > NETS // 2


def test_cancelling_a_partial_join_whose_instances_run_on_resets_it():
    """Cancelling a partial join resets it although it is idle, because its instances are independent (rules 5 and 6)."""
    net = {
        "tasks": {
            "S": {"split": "and"},
            "X": {},
            "H": {"join": {"partial": 1}, "mi": {"count": 1, "sync": False}},
            "Z": {},
        },
        "flows": [["i", "S"], ["S", "X"], ["S", "H"], ["X", "H"], ["H", "Z"], ["Z", "o"]],
    }
    steps = [("complete", "S"), ("start", "H"), ("cancel", "H"), ("complete", "X")]
    script = [{"do": do, "task": task} for do, task in steps]
    both({"id": "reset", "net": net, "script": [*script, {"expect_enabled": ["H", "Z"]}]})


INNER = {"tasks": {"A": {}}, "flows": [["i", "A"], ["A", "o"]]}


@pytest.mark.parametrize(
    ("more", "instances"), [({}, ["E/A"]), ({"mi": {"count": 2, "sync": False}}, ["E#1/A", "E#2/A"])]
)
def test_an_or_join_that_has_just_started_waits_again(more, instances):
    """An OR-join that starts by itself is decided anew before it starts once more, independent instances or not (rule 2)."""
    net = {
        "tasks": {"A": {}, "C": {}, "E": {"join": "or", "subnet": "inner", **more}, "F": {}},
        "conditions": ["p"],
        "flows": [["i", "A"], ["A", "p"], ["p", "C"], ["p", "E"], ["p", "F"], ["F", "p", {"n": 3}], ["C", "E"]],
        "termination": "implicit",
        "subnets": {"inner": INNER},
    }
    script = [{"do": "complete", "task": each} for each in "AFC"]
    both({"id": "again", "net": net, "script": [*script, {"expect_enabled": ["C", *instances, "F"]}]})


def test_an_or_join_waits_for_what_another_task_has_taken_before_it():
    """Where another OR-join that became ready with it takes one of its tokens first, it waits for that token to come back (rule 2)."""
    join = {"join": "or", "subnet": "inner"}
    net = {
        "tasks": {"S": {"split": "and"}, "X": join, "E": join},
        "conditions": ["p"],
        "flows": [["i", "S"], ["S", "p"], ["S", "X"], ["p", "X"], ["X", "p"], ["p", "E"], ["S", "E"], ["E", "o"]],
        "subnets": {"inner": INNER},
    }
    script = [{"do": "complete", "task": "S"}, {"expect_enabled": ["X/A"]}]
    # By KNHK alone: that X is first is not in the rules, and the naive game does not go on.
    Player({"id": "taken", "net": net, "script": script}, store=MemoryStore(), evict=True, trace=False).play()


def test_triggers_are_held_for_every_thread_of_an_or_join():
    """As many transient triggers are held as threads wait at an OR-join, and those of the others stay while it is busy (rule 7)."""
    net = {
        "tasks": {"A": {"split": "and"}, "B": {}, "C": {"join": "or", "trigger": {"event": "e", "mode": "transient"}}},
        "flows": [["i", "A"], ["A", "C", {"n": 2}], ["A", "B"], ["B", "C"]],
        "termination": "implicit",
    }
    script = [
        {"do": "complete", "task": "A"},
        {"do": "event", "name": "e"},
        {"expect_enabled": ["B"]},
        {"do": "complete", "task": "B"},
        *[{"do": "event", "name": "e"}] * 3,
        {"do": "start", "task": "C"},
        {"expect_enabled": []},
        {"do": "complete", "task": "C"},
        {"expect_enabled": ["C"]},
        {"do": "complete", "task": "C"},
        {"expect_outcome": "completed"},
    ]
    both({"id": "held", "net": net, "script": script})


def test_a_trigger_is_held_for_the_next_round_of_a_partial_join():
    """A transient trigger is held while a partial join is busy and its next round has come already (rules 4 and 7)."""
    net = {
        "tasks": {"A": {}, "C": {"join": {"partial": 1}, "trigger": {"event": "e", "mode": "transient"}}},
        "flows": [["i", "A"], ["A", "C", {"n": 2}]],
        "termination": "implicit",
    }
    script = [
        {"do": "complete", "task": "A"},
        *[{"do": "event", "name": "e"}] * 2,
        {"do": "start", "task": "C"},
        *[{"do": "event", "name": "e"}] * 2,
        {"do": "complete", "task": "C"},
        {"expect_enabled": ["C"]},
    ]
    both({"id": "round", "net": net, "script": script})


def test_the_timer_of_an_or_joins_next_thread_runs_while_it_is_busy():
    """The clock of the next thread at an OR-join begins when its join is satisfied, busy or not, as at any other join."""
    net = {
        "tasks": {"A": {"split": "and"}, "B": {}, "C": {"join": "or", "subnet": "inner", "timer": 3}},
        "flows": [["i", "A"], ["A", "C", {"n": 2}], ["B", "C"], ["A", "B"]],
        "termination": "implicit",
        "subnets": {"inner": INNER},
    }
    script = [
        {"do": "complete", "task": "A"},
        {"do": "complete", "task": "B"},
        {"do": "advance", "by": 3},
        {"expect_enabled": ["C/A"]},
        {"do": "advance", "by": 2},
        {"do": "complete", "task": "C/A"},
        {"expect_enabled": []},
        {"do": "advance", "by": 1},
        {"expect_enabled": ["C/A"]},
    ]
    both({"id": "clock", "net": net, "script": script})


def test_a_timer_that_has_run_out_for_a_task_that_is_stuck_is_nothing_to_wait_for():
    """Where a composite task never ends, its next thread waits as long as its timer runs, and then the case is in deadlock (rule 9)."""
    stuck = {"tasks": {"A": {"join": "and"}}, "flows": [["i", "A"], ["A", "A"]], "termination": "implicit"}
    net = {
        "tasks": {"A": {}, "B": {"subnet": "inner", "timer": 3}, "C": {}},
        "flows": [["i", "A"], ["A", "B", {"n": 2}], ["B", "C"], ["C", "o"]],
        "subnets": {"inner": stuck},
    }
    script = [
        {"do": "complete", "task": "A"},
        {"do": "advance", "by": 3},
        {"expect_outcome": "running"},
        {"do": "advance", "by": 2},
        {"expect_outcome": "running"},
        {"do": "advance", "by": 1},
        {"expect_outcome": "deadlock"},
    ]
    both({"id": "stuck", "net": net, "script": script})


def both(scenario):
    """Let the naive game play a scenario, and KNHK."""
    assert play(scenario) == []
    Player(scenario, store=MemoryStore(), evict=True, trace=False).play()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
