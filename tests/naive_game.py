"""A second, naive interpreter of the token game, written from `tests/data/patterns/README.md` and `patterns.md` alone.

It plays the scenario format itself (a net as a dict) and is as slow as it is plain: every action is tried on a copy of
the whole case and kept when it was not refused; an OR-join is decided by walking forward through all states.
Nothing of `knhk` is imported or was read when the first version was written: it is there to disagree with it.

Where the rules leave something open the choice is marked `OPEN` with its letter; `OPEN_POINTS` says what they are.
"""

import copy
import itertools
import operator

STATES = 3000  # the most states an OR-join's search may see
SETTLE = 60  # the most things that may happen by themselves after one action

OPEN_POINTS = {
    "timer-refused": "what happens when a timer task is due and no predicate of its split holds",
    "endless": "composites that start and end by themselves for ever",
    "or-cap": "the OR-join's search saw too many states (not a point of the rules: a limit of this program)",
}


CHOICES = set()
"""Where the rules are open: the names of the points in which the other reading is taken (`OPEN_POINTS`)."""


STOPS = set()
"""The names of the points at which a run ends undecided, where this program would otherwise take its own reading."""


class Refused(Exception):
    """The action is refused; nothing changes."""


class Unknown(Exception):
    """This program does not decide the situation: the run ends here and is compared no further."""

    def __init__(self, point, detail=""):
        super().__init__(f"{point} {detail}")
        self.point = point


def stop(point, detail=""):
    """End the run where the user wants the point left out."""
    if point in STOPS:
        raise Unknown(point, detail)


OPS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def holds(predicate, data):
    """Whether a `[variable, op, constant]` holds; an unset variable is false (rule 3)."""
    variable, op, constant = predicate
    if data.get(variable) is None:
        return False
    return OPS[op](data[variable], constant)


class Net:
    """A net definition: flows brought to conditions only, inputs and outputs of each task in file order."""

    def __init__(self, net):
        self.tasks = net["tasks"]
        self.explicit = net.get("termination", "explicit") == "explicit"
        self.inputs = {task: [] for task in self.tasks}
        self.outputs = {task: [] for task in self.tasks}
        self.has_xor_joins = any(task.get("join") == "xor" for task in self.tasks.values())
        self.decided = {}  # what the OR-joins' searches found, by state
        self.feeding = set()  # conditions that feed some task
        self.conditions = ["i", "o", *net.get("conditions", [])]
        for flow in net["flows"]:
            source, target, options = (*flow, {})[:3]
            n = options.get("n", 1)
            if source in self.tasks and target in self.tasks:
                condition = f"{source}>{target}"
                self.conditions.append(condition)
                self.outputs[source].append((condition, n, options))
                self.inputs[target].append((condition, 1))
            elif source in self.tasks:
                self.outputs[source].append((target, n, options))
            else:
                self.inputs[target].append((source, n))
        for inputs in self.inputs.values():
            self.feeding |= {condition for condition, _ in inputs}

    def join(self, task):
        """The kind of join: and, xor, or, partial (one input: and)."""
        join = self.tasks[task].get("join", "and")
        return "partial" if isinstance(join, dict) else join

    def partial(self, task):
        """The dict of a partial join."""
        return self.tasks[task]["join"]

    def split(self, task):
        """The kind of split (one output: and)."""
        return self.tasks[task].get("split", "and")

    def chosen(self, task, data):
        """The output flows the split chooses (rule 3); refused when there is none."""
        outputs = self.outputs[task]
        kind = self.split(task)
        if kind == "and":
            return outputs
        true = [flow for flow in outputs if "when" in flow[2] and holds(flow[2]["when"], data)]
        default = [flow for flow in outputs if flow[2].get("default")]
        chosen = (true[:1] if kind == "xor" else true) or default[:1]
        if not chosen:
            raise Refused(f"no output of {task}")
        return chosen


class Activation:
    """A busy task: `child` for a composite; `open` (number -> child or None) and counters for multiple instances."""

    def __init__(self):
        self.child = None
        self.open = None
        self.created = 0
        self.completed = 0
        self.passed = False
        self.closed = False

    def copy(self):
        """A copy of it and of all that runs inside."""
        new = copy.copy(self)
        new.child = self.child and self.child.copy()
        new.open = None if self.open is None else copy_open(self.open)
        return new


def copy_open(instances):
    """A copy of numbered instances."""
    return {number: child and child.copy() for number, child in instances.items()}


class Instance:
    """One running net."""

    def __init__(self, net):
        self.net = net
        self.tokens = dict.fromkeys(net.conditions, 0)
        self.tokens["i"] = 1
        self.running = {}  # task -> Activation
        self.detached = {}  # task -> {number: child or None}
        self.numbers = {}  # task -> the highest number a detached instance has had; no number is used twice
        self.fired = {}  # partial join that fired and has not reset -> inputs that came this round
        self.held = {}  # task -> triggers held
        self.due = {}  # timer task -> when it is due

    def copy(self):
        """A copy of it and of all that runs inside; the definition is shared."""
        new = copy.copy(self)
        for name in ("tokens", "numbers", "held", "due"):
            setattr(new, name, dict(getattr(self, name)))
        new.running = {task: activation.copy() for task, activation in self.running.items()}
        new.detached = {task: copy_open(instances) for task, instances in self.detached.items()}
        new.fired = {task: set(came) for task, came in self.fired.items()}
        return new

    def marked(self, task):
        """The inputs of the task that hold enough tokens, with how many it takes."""
        return [(condition, n) for condition, n in self.net.inputs[task] if self.tokens[condition] >= n]

    def satisfied(self, task):
        """Whether the join has what it needs, whatever else the task waits for."""
        inputs, marked, kind = self.net.inputs[task], self.marked(task), self.net.join(task)
        if not inputs or not marked:
            return False
        if kind == "and":
            return len(marked) == len(inputs)
        if kind == "xor":
            return True
        if kind == "or":
            return self.or_satisfied(task)
        return task not in self.fired and len(marked) >= self.net.partial(task)["partial"]

    def or_satisfied(self, task):
        """Whether the OR-join need not wait; unknown where it depends on an open point."""
        marked, inputs = self.marked(task), self.net.inputs[task]
        if len(marked) == len(inputs):
            return True
        state = (task, *Search(self, task).first())
        if state not in self.net.decided:
            self.net.decided[state] = self.decide(task)
        return self.net.decided[state]

    def decide(self, task):
        """The OR-join's search, under both readings of each open point."""
        answers = {}
        for any_input in {False, self.net.has_xor_joins}:
            for end_is_a_place in {False, self.net.explicit}:
                search = Search(self, task, any_input=any_input, end_is_a_place=end_is_a_place)
                answers[any_input, end_is_a_place] = not search.more_may_come()
        if len(set(answers.values())) == 1:
            return answers[False, False]
        if answers.get((True, False), answers[False, False]) != answers[False, False]:
            raise Unknown("or-xor", task)
        raise Unknown("or-end", task)

    def ready(self, task):
        """Whether the task may start now (rules 1, 2, 7)."""
        attributes = self.net.tasks[task]
        return (
            task not in self.running
            and all(self.tokens[condition] for condition in attributes.get("reads", ()))
            and ("trigger" not in attributes or self.held.get(task, 0) > 0)
            and self.satisfied(task)
        )

    def waits(self, task):
        """Whether a thread of control waits at the task, for a trigger, a timer or a person."""
        reads = self.net.tasks[task].get("reads", ())
        if "reads" in CHOICES and not all(self.tokens[condition] for condition in reads):
            return False
        return self.satisfied(task)

    def taken(self, task):
        """The tokens a start takes."""
        marked = self.marked(task)
        return marked[:1] if self.net.join(task) == "xor" else marked

    def threads(self, task):
        """How many threads wait for the task: how often it could start one after the other."""
        if not self.waits(task):
            return 0
        kind, inputs = self.net.join(task), self.net.inputs[task]
        rounds = [self.tokens[condition] // n for condition, n in inputs]
        if kind == "and":
            return min(rounds)
        if kind == "xor":
            return sum(rounds)
        return max(rounds) if kind == "or" else 1

    def abort(self, element):
        """Empty a condition, or abort a task with all it contains; a partial join resets."""
        if element in self.tokens:
            self.tokens[element] = 0
        else:
            self.running.pop(element, None)
            self.detached.pop(element, None)
            self.fired.pop(element, None)

    def swallow(self):
        """Let partial joins that fired take the first arrival of the inputs still missing, and reset (rule 4)."""
        for task in list(self.net.tasks):
            if task not in self.fired:
                continue
            for condition, n in self.net.inputs[task]:
                if condition not in self.fired[task] and self.tokens[condition] >= n:
                    self.tokens[condition] -= n
                    self.fired[task].add(condition)
            if len(self.fired[task]) == len(self.net.inputs[task]):
                del self.fired[task]

    def children(self):
        """The nets running in this one: (task, number or None, Instance)."""
        for task, activation in self.running.items():
            if activation.child is not None:
                yield task, None, activation.child
            for number, child in (activation.open or {}).items():
                if child is not None:
                    yield task, number, child
        for task, instances in self.detached.items():
            for number, child in instances.items():
                if child is not None:
                    yield task, number, child

    def ended(self):
        """Whether the net has ended (rule 8)."""
        if self.net.explicit:
            return self.tokens["o"] > 0
        if self.running or any(self.detached.values()):
            return False
        return not any(n and condition in self.net.feeding for condition, n in self.tokens.items())


class Search:
    """The OR-join's forward search (rule 2): all states of one net, predicates ignored, the join itself not fired."""

    def __init__(self, instance, join, *, any_input=False, end_is_a_place=False):
        self.net, self.join, self.instance = instance.net, join, instance
        self.any_input, self.end_is_a_place = any_input, end_is_a_place

    def more_may_come(self):
        """Whether a reachable state marks all inputs marked now and one more."""
        inputs = self.net.inputs[self.join]
        now = self.instance.marked(self.join)
        if len(now) == len(inputs):
            return False
        first = self.first()
        seen, todo = {first}, [first]
        for state in todo:
            tokens = dict(state[0])
            marked = {condition for condition, n in inputs if tokens[condition] >= n}
            if marked > {condition for condition, _ in now}:
                return True
            for successor in self.successors(state):
                if successor not in seen:
                    seen.add(successor)
                    todo.append(successor)
            if len(seen) > STATES:
                raise Unknown("or-cap")
        return False

    def first(self):
        """The state of the search that stands for the net's own."""
        passed = {task for task, activation in self.instance.running.items() if activation.passed}
        return (
            tuple(sorted(self.instance.tokens.items())),
            frozenset(set(self.instance.running) - passed),
            frozenset(passed),
            frozenset((task, frozenset(came)) for task, came in self.instance.fired.items()),
        )

    def successors(self, state):
        """Every state one step away: a task starts, or completes."""
        for task in state[1]:
            yield from self.completions(state, task)
        for task in state[2]:
            yield (state[0], state[1], state[2] - {task}, state[3])
        for task in self.net.tasks:
            if task != self.join and task not in state[1] and task not in state[2]:
                yield from self.starts(state, task)

    def starts(self, state, task):
        """The ways the task can start here."""
        tokens, fired = dict(state[0]), {name: set(came) for name, came in state[3]}
        attributes, inputs = self.net.tasks[task], self.net.inputs[task]
        if not all(tokens[condition] for condition in attributes.get("reads", ())):
            return
        marked = [(condition, n) for condition, n in inputs if tokens[condition] >= n]
        kind = self.net.join(task)
        if kind == "and":
            ways = [marked] if inputs and len(marked) == len(inputs) else []
        elif kind == "xor":
            ways = [[one] for one in marked] if self.any_input else [marked[:1]] if marked else []
        elif kind == "or":
            ways = [[one] for one in marked]
        else:
            enough = len(marked) >= self.net.partial(task)["partial"] and task not in fired
            ways = [marked] if enough else []
        for way in ways:
            after, running, passed = dict(tokens), set(state[1]), set(state[2])
            memory = {name: set(came) for name, came in fired.items()}
            for condition, n in way:
                after[condition] -= n
            if kind == "partial" and "cancels" in self.net.partial(task):
                for condition, _ in inputs:
                    after[condition] = 0
                self.abort(self.net.partial(task)["cancels"], after, running, passed, memory)
            elif kind == "partial":
                memory[task] = {condition for condition, _ in way}
            if attributes.get("mi", {}).get("sync", True):
                yield self.settled(after, running | {task}, passed, memory)
            else:
                yield from self.completions(self.settled(after, running | {task}, passed, memory), task)

    def completions(self, state, task):
        """The ways the task can complete here: whatever its split might choose."""
        outputs = self.net.outputs[task]
        kind = self.net.split(task)
        if kind == "and":
            choices = [outputs]
        elif kind == "xor":
            choices = [[flow] for flow in outputs]
        else:
            choices = [list(some) for r in range(1, len(outputs) + 1) for some in itertools.combinations(outputs, r)]
        for choice in choices:
            tokens, running, passed = dict(state[0]), set(state[1]) - {task}, set(state[2])
            memory = {name: set(came) for name, came in state[3]}
            self.abort(self.net.tasks[task].get("cancel", ()), tokens, running, passed, memory)
            for condition, n, _ in choice:
                tokens[condition] += n
            if self.net.explicit and tokens["o"] and not self.end_is_a_place:
                continue  # the net ends here and the rest is discarded: nothing is marked any more
            yield self.settled(tokens, running, passed, memory)

    @staticmethod
    def abort(elements, tokens, running, passed, memory):
        """Abort elements of the net in a state."""
        for element in elements:
            if element in tokens:
                tokens[element] = 0
            running.discard(element)
            passed.discard(element)
            memory.pop(element, None)

    def settled(self, tokens, running, passed, memory):
        """A state, after partial joins swallowed what they must."""
        for task in self.net.tasks:
            if task in memory:
                for condition, n in self.net.inputs[task]:
                    if condition not in memory[task] and tokens[condition] >= n:
                        tokens[condition] -= n
                        memory[task].add(condition)
                if len(memory[task]) == len(self.net.inputs[task]):
                    del memory[task]
        return (
            tuple(sorted(tokens.items())),
            frozenset(running),
            frozenset(passed),
            frozenset((task, frozenset(came)) for task, came in memory.items()),
        )


class Game:
    """One case."""

    def __init__(self, net, data=None):
        self.nets = {name: Net(sub) for name, sub in net.get("subnets", {}).items()}
        self.data = dict(data or {})
        self.now = 0
        self.status = "running"
        self.root = Instance(Net(net))
        self.happened = 0
        self.settle()

    def copy(self):
        """A copy to try an action on."""
        new = copy.copy(self)
        new.data = dict(self.data)
        new.root = self.root and self.root.copy()
        return new

    # What a user sees

    def walk(self, instance=None, path="", parent=None):
        """Every running net, outer first: (instance, path prefix, (parent, task, number) or None)."""
        instance = instance or self.root
        if instance is None:
            return
        yield instance, path, parent
        for task, number, child in list(instance.children()):
            step = task if number is None else f"{task}#{number}"
            yield from self.walk(child, f"{path}{step}/", (instance, task, number))

    def enabled(self):
        """The tasks offered for starting."""
        return sorted(
            path + task
            for instance, path, _ in self.walk()
            for task, attributes in instance.net.tasks.items()
            if "subnet" not in attributes and "timer" not in attributes and instance.ready(task)
        )

    def running(self):
        """The started atomic tasks and instances of atomic tasks."""
        found = []
        for instance, path, _ in self.walk():
            for task, activation in instance.running.items():
                if activation.open is not None:
                    found += [f"{path}{task}#{number}" for number, child in activation.open.items() if child is None]
                elif activation.child is None:
                    found.append(path + task)
            for task, instances in instance.detached.items():
                found += [f"{path}{task}#{number}" for number, child in instances.items() if child is None]
        return sorted(found)

    def waiting(self):
        """Whether some task waits for its trigger or its timer."""
        for instance, _, _ in self.walk():
            for task, attributes in instance.net.tasks.items():
                if "trigger" in attributes and not instance.held.get(task) and task not in instance.running:
                    if instance.waits(task):
                        return True
                if "timer" in attributes and instance.due.get(task, self.now) > self.now:
                    return True
        return False

    def outcome(self):
        """Rule 9."""
        if self.status != "running":
            return self.status
        return "running" if self.enabled() or self.running() or self.waiting() else "deadlock"

    # The actions

    def act(self, step):
        """Play one action; true when it was done, false when it was refused (and nothing changed)."""
        before = self.copy()
        self.happened = 0
        try:
            getattr(self, "do_" + step["do"])(step)
        except Refused:
            self.__dict__ = before.__dict__
            return False
        return True

    def alive(self):
        """Refuse any action on a case that is over."""
        if self.status != "running":
            raise Refused("the case is over")

    def locate(self, path):
        """The net instance, the task and the instance number a path means."""
        self.alive()
        instance = self.root
        *outer, last = path.split("/")
        for part in outer:
            child = next(
                (c for task, n, c in instance.children() if part == (task if n is None else f"{task}#{n}")), None
            )
            if child is None:
                raise Refused(f"no net {part}")
            instance = child
        task, _, number = last.partition("#")
        if task not in instance.net.tasks:
            raise Refused(f"no task {task}")
        return instance, task, int(number) if number else None

    def offered(self, instance, task):
        """Refuse what is not offered for starting."""
        attributes = instance.net.tasks[task]
        if "subnet" in attributes or "timer" in attributes or not instance.ready(task):
            raise Refused(f"{task} is not enabled")

    def do_start(self, step):
        """Start an enabled task."""
        instance, task, number = self.locate(step["task"])
        if number is not None:
            raise Refused("instances are not started one by one")
        self.offered(instance, task)
        self.start(instance, task)
        self.settle()

    def do_complete(self, step):
        """Complete a running task or instance, or start and complete an enabled task."""
        instance, task, number = self.locate(step["task"])
        attributes = instance.net.tasks[task]
        if number is None:
            if "mi" in attributes or "subnet" in attributes:
                raise Refused("only its instances, or its net, complete")
            if task not in instance.running:
                self.offered(instance, task)
                self.start(instance, task)
                self.settle()
            self.data |= step.get("data", {})
            del instance.running[task]
            self.pass_control(instance, task)
        else:
            activation = instance.running.get(task)
            instances = activation.open if activation else instance.detached.get(task, {})
            if "mi" not in attributes or "subnet" in attributes or number not in (instances or {}):
                raise Refused("no such instance")
            self.data |= step.get("data", {})
            self.finish(instance, task, number)
        self.settle()

    def do_cancel(self, step):
        """Withdraw an enabled or waiting task, or abort a running one."""
        instance, task, number = self.locate(step["task"])
        if number is not None:
            raise Refused("instances are not cancelled one by one")
        if task in instance.running or instance.detached.get(task):
            instance.abort(task)
        elif instance.waits(task):
            for condition, n in instance.taken(task):
                instance.tokens[condition] -= n
            instance.fired.pop(task, None)
            if instance.due.pop(task, None) is not None and instance.waits(task):
                stop("timer-cancel", task)
            if instance.net.tasks[task].get("trigger", {}).get("mode") == "transient" and instance.held.get(task):
                instance.held[task] -= 1
        else:
            raise Refused("nothing to cancel")
        self.settle()

    def do_cancel_case(self, step):
        """Cancel the whole case."""
        self.alive()
        self.status, self.root = "cancelled", None

    def do_event(self, step):
        """Deliver an event to every running net: a transient one only where a thread has none yet (rule 7)."""
        self.alive()
        for instance, _, _ in list(self.walk()):
            for task, attributes in instance.net.tasks.items():
                trigger = attributes.get("trigger")
                if trigger and trigger["event"] == step["name"]:
                    held = instance.held.get(task, 0)
                    if trigger["mode"] == "persistent" or held < instance.threads(task):
                        instance.held[task] = held + 1
        self.settle()

    def do_advance(self, step):
        """Let time pass; timers that become due on the way run at their time, in order."""
        target = self.now + step["by"]
        while self.status == "running":
            coming = [
                due for instance, _, _ in self.walk() for due in instance.due.values() if self.now < due <= target
            ]
            if not coming:
                break
            self.now = min(coming)
            self.happened = 0
            try:
                self.settle()
            except Refused as refusal:
                raise Unknown("timer-refused", refusal) from refusal
        self.now = target

    def active(self, step):
        """The activation of a multiple instance task that has not passed control."""
        instance, task, number = self.locate(step["task"])
        activation = instance.running.get(task)
        if number is not None or activation is None or activation.open is None or activation.passed:
            raise Refused("no active multiple instance task")
        return instance, task, activation

    def do_add_instance(self, step):
        """Create one more instance of a dynamic task."""
        instance, task, activation = self.active(step)
        mi = instance.net.tasks[task]["mi"]
        if mi.get("create", "static") != "dynamic" or activation.closed:
            raise Refused("creation is not open")
        if "max" in mi and activation.created >= mi["max"]:
            raise Refused("the maximum is reached")
        activation.created += 1
        activation.open[activation.created] = self.child(instance, task)
        self.settle()

    def do_close_instances(self, step):
        """Allow no more instances."""
        instance, task, activation = self.active(step)
        if instance.net.tasks[task]["mi"].get("create", "static") != "dynamic":
            raise Refused("creation is never open")
        activation.closed = True
        self.settle()

    def do_complete_mi(self, step):
        """Force a multiple instance task to complete."""
        instance, task, _ = self.active(step)
        del instance.running[task]
        self.pass_control(instance, task)
        self.settle()

    # What the actions are made of

    def child(self, instance, task):
        """A new subnet for a composite task, none for an atomic one."""
        subnet = instance.net.tasks[task].get("subnet")
        return Instance(self.nets[subnet]) if subnet else None

    def count(self, mi):
        """The number of instances to create (rule 6)."""
        count = mi.get("count", 1)
        if isinstance(count, str):
            count = self.data.get(count)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise Refused("no number of instances")
        if count < mi.get("min", count) or count > mi.get("max", count):
            raise Refused("number of instances out of bounds")
        return count

    def start(self, instance, task):
        """Take the input tokens and make the task busy (rules 1, 4, 6, 7)."""
        attributes = instance.net.tasks[task]
        mi = attributes.get("mi")
        count = None if mi is None else self.count(mi)
        taken = instance.taken(task)
        for condition, n in taken:
            instance.tokens[condition] -= n
        if instance.net.join(task) == "partial":
            partial = instance.net.partial(task)
            if "cancels" in partial:
                for condition, _ in instance.net.inputs[task]:
                    instance.tokens[condition] = 0
                for element in partial["cancels"]:
                    instance.abort(element)
            else:
                instance.fired[task] = {condition for condition, _ in taken}
        if "trigger" in attributes:
            instance.held[task] -= 1
        instance.due.pop(task, None)
        if mi is not None and not mi.get("sync", True):
            if task in attributes.get("cancel", ()) and instance.detached.get(task):
                stop("self-cancel", task)
            self.pass_control(instance, task)
            first = instance.numbers.get(task, 0) + 1
            instance.numbers[task] = first + count - 1
            new = {number: self.child(instance, task) for number in range(first, first + count)}
            instance.detached.setdefault(task, {}).update(new)
        elif count == 0:
            self.pass_control(instance, task)
        else:
            activation = instance.running[task] = Activation()
            if mi is not None:
                activation.created = count
                activation.open = {number: self.child(instance, task) for number in range(1, count + 1)}
            else:
                activation.child = self.child(instance, task)

    def finish(self, instance, task, number):
        """One instance is complete: decide whether the task passes control (rule 6)."""
        activation = instance.running.get(task)
        if activation is None:
            del instance.detached[task][number]
            return
        mi = instance.net.tasks[task]["mi"]
        del activation.open[number]
        activation.completed += 1
        if activation.passed:
            if not activation.open:
                del instance.running[task]
            return
        counts = {"completed": activation.completed, "created": activation.created}
        enough = (
            not activation.open
            or activation.completed >= mi.get("threshold", float("inf"))
            or ("until" in mi and holds(mi["until"], self.data | counts))
        )
        if enough:
            if activation.open and mi.get("remaining", "cancel") == "continue":
                activation.passed = True
            else:
                del instance.running[task]
            self.pass_control(instance, task)

    def pass_control(self, instance, task):
        """Choose the outputs, apply the cancellation set, put the tokens (rules 3, 5)."""
        chosen = instance.net.chosen(task, self.data)
        held = dict(instance.held)
        for element in instance.net.tasks[task].get("cancel", ()):
            instance.abort(element)
        self.refresh(instance)
        if held != instance.held:
            stop("trigger-cancel", task)
        for condition, n, _ in chosen:
            instance.tokens[condition] += n

    def refresh(self, instance):
        """Swallow; lose transient triggers whose thread is gone; start and stop timers."""
        instance.swallow()
        for task, attributes in instance.net.tasks.items():
            if attributes.get("trigger", {}).get("mode") == "transient" and instance.held.get(task):
                instance.held[task] = min(instance.held[task], instance.threads(task))
            if "timer" in attributes:
                if instance.waits(task):
                    instance.due.setdefault(task, self.now + attributes["timer"])
                else:
                    instance.due.pop(task, None)

    def after_starts(self, instance, order):
        """What a net looks like after these tasks were started in this order, as far as they still can."""
        instance = instance.copy()
        try:
            for task in order:
                if instance.ready(task):
                    self.start(instance, task)
        except Refused:
            return "refused"
        return repr((sorted(instance.tokens.items()), sorted(instance.running), sorted(instance.fired), instance.held))

    def settle(self):
        """Let everything happen that happens by itself."""
        while self.status == "running" and self.by_itself():
            self.happened += 1
            if self.happened > SETTLE:
                raise Unknown("endless")

    def by_itself(self):
        """Let one thing happen by itself: a net ends, a composite starts, a timer runs; false when there is none."""
        for instance, _, parent in self.walk():
            self.refresh(instance)
            if not instance.ended():
                continue
            if parent is None:
                self.status, self.root = "completed", None
                return True
            outer, task, number = parent
            if number is None:
                del outer.running[task]
                self.pass_control(outer, task)
            else:
                self.finish(outer, task, number)
            return True
        for instance, _, _ in self.walk():
            ready = [task for task, attributes in instance.net.tasks.items() if "subnet" in attributes]
            ready = [task for task in ready if "timer" not in instance.net.tasks[task] and instance.ready(task)]
            if (
                len(ready) > 1
                and len({self.after_starts(instance, order) for order in itertools.permutations(ready)}) > 1
            ):
                stop("order", ready)
            if ready:
                self.start(instance, ready[0])
                return True
        timers = [
            (instance.due[task], place, instance, task)
            for place, (instance, _, _) in enumerate(self.walk())
            for task in instance.net.tasks
            if instance.due.get(task, self.now + 1) <= self.now and instance.ready(task)
        ]
        if timers:
            _, _, instance, task = min(timers, key=lambda timer: timer[:2])
            self.start(instance, task)
            if "subnet" not in instance.net.tasks[task]:
                instance.running.pop(task, None)
                self.pass_control(instance, task)
            return True
        return False


# Scenarios


def play(case):
    """Play a scenario with its traces and its language; return what went wrong, empty when nothing did."""
    wrong = []
    game = Game(case["net"])
    for number, step in enumerate(case.get("script", [])):
        if "do" in step:
            if game.act(step) == step.get("refused", False):
                wrong.append(f"step {number} {step}: refused or not")
        else:
            ((what, expected),) = step.items()
            got = getattr(game, what.removeprefix("expect_"))()
            if got != expected:
                wrong.append(f"step {number} {what}: {got}, not {expected}")
    for wanted, traces in ((True, case.get("accept", [])), (False, case.get("reject", []))):
        for trace in traces:
            if accepts(case["net"], trace) != wanted:
                wrong.append(f"trace {trace}: accepted is not {wanted}")
    if "language" in case:
        got = sorted(language(Game(case["net"])))
        if got != sorted(case["language"]):
            wrong.append(f"language {got}")
    return wrong


def accepts(net, trace):
    """Whether a trace plays without refusal and completes the case."""
    game = Game(net)
    for element in trace:
        step = element if isinstance(element, dict) else {"task": element}
        if not game.act({"do": "complete", **step}):
            return False
    return game.outcome() == "completed"


def language(game, done=()):
    """All orders in which tasks can complete until the case completes."""
    if game.outcome() == "completed":
        yield list(done)
    for task in sorted({*game.enabled(), *game.running()}):
        after = game.copy()
        if after.act({"do": "complete", "task": task}):
            yield from language(after, (*done, task))
