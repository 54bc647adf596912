"""The token game, reference version: the definition, the fallback without a compiler, the oracle in tests.

A `Marking` is the state of one net instance: how many tokens each condition holds, which tasks hold their thread of control,
and what each partial join has seen of its round.
It implements rules 1 to 5 of the token game:

1. *start* takes the input tokens, *complete* puts the output tokens.  A task has at most one activation at a time.
2. AND-join: every input marked.  XOR-join: takes from the first marked input in flow order.  OR-join: waits as long as a
   reachable state could mark one more of its inputs (`knhk._orjoin`), and takes from every marked input.
3. Splits put tokens on the outputs that the caller chose: predicates are decided one layer up, the kernel sees positions.
4. Partial joins take from every marked input and remember which inputs came this round; a first arrival after the start is
   swallowed, a second one waits, and when each input has come once the join resets.  The cancelling form empties its region
   at the start and resets at once.
5. Cancellation empties conditions and aborts tasks at completion, before the task's own output.

Invariants, held by property tests:

- ``ready`` is exactly the set of idle tasks whose join is satisfied and whose read conditions are marked.
  It is kept incrementally: a step looks again only at the consumers of the conditions that it touched.
- OR-joins depend on the whole net.  They are looked at again in `settle`, and only when something changed since the last time.
- `changes` tells of every task exactly once that it became ready, and that it ceased to be.
- No method leaves a half-done step: a call that is not allowed raises before the first change.

What this file is not: it knows no data, no time, no subnets and no instances; `knhk.case` puts those on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from knhk import _orjoin
from knhk._orjoin import OrJoinAnalysis
from knhk._tables import AND, OR, PARTIAL, XOR, Tables, TaskTable
from knhk.errors import InternalError

IDLE = 0
BUSY = 1
DRAINING = 2
"""Control has passed, but instances still run (rule 6, ``continue``): no output when they end."""

COMPILED = False
"""Whether this kernel is the compiled one."""


class Net:
    """A net made ready for the kernel: its tables and the OR-join analysis that all its instances share."""

    __slots__ = ("analysis", "tables")

    def __init__(self, tables: Tables, *, or_join_budget: int | None = None) -> None:
        self.tables = tables
        self.analysis = (
            OrJoinAnalysis(tables) if or_join_budget is None else OrJoinAnalysis(tables, budget=or_join_budget)
        )

    def marking(self) -> Marking:
        """Return a fresh instance: one token in the input condition."""
        return Marking(self)


class Marking:
    """
    The state of one net instance.

    Attributes:
        tokens: by condition, how many tokens it holds.
        status: by task, `IDLE`, `BUSY` or `DRAINING`.
        seen: by partial join in the middle of a round, the bit mask of input positions that have come.
        undecided: OR-joins whose search met its budget; they count as not ready.
    """

    __slots__ = ("_announced", "_busy", "_ceased", "_dirty", "_ready", "net", "seen", "status", "tokens", "undecided")

    def __init__(self, net: Net) -> None:
        tables = net.tables
        self.net = net
        self.tokens = [0] * len(tables.conditions)
        self.status = [IDLE] * len(tables.tasks)
        self.seen: dict[int, int] = {}
        self.undecided: set[int] = set()
        self._ready: set[int] = set()
        self._announced: set[int] = set()
        self._ceased: set[int] = set()
        self._busy = 0
        self._dirty = False
        self._put(((0, 1),))

    # --- looking ------------------------------------------------------------------------------------------------------

    def is_ready(self, task: int) -> bool:
        """Whether the task is idle, its join satisfied and its reads marked, as of the last `settle` for OR-joins."""
        return task in self._ready

    def ready(self) -> list[int]:
        """Return the ready tasks, ascending."""
        return sorted(self._ready)

    def changes(self) -> list[int]:
        """
        Return, and forget, which tasks became ready or ceased to be since the last call.

        Returns:
            First ``~t``, ascending, for each task that was ready at the last call and was not at some moment since; then
            ``t``, ascending, for each that is ready now and was not at the last call or at some moment since.
        """
        ceased, ready = self._ceased, self._ready
        came = sorted(task for task in ready if task in ceased or task not in self._announced)
        news = [*(~task for task in sorted(ceased)), *came]
        self._announced = set(ready)
        self._ceased = set()
        return news

    def anything_busy(self) -> bool:
        """Whether some task holds its thread of control."""
        return self._busy > 0

    def has_ended(self) -> bool:
        """
        Whether the net has ended (rule 8).

        Explicit: the output condition holds a token.
        Implicit: nothing is busy and every token lies in a condition that feeds no task.
        """
        tables = self.net.tables
        if not tables.implicit:
            return self.tokens[1] > 0
        if self._busy:
            return False
        return all(sink or not count for sink, count in zip(tables.sinks, self.tokens, strict=True))

    def threads(self, task: int) -> int:
        """
        Return how many threads of control wait at the task now, whether or not it is busy.

        Exact for AND- and XOR-joins.
        If the join is satisfied, an OR-join has as many as its fullest input, and a partial join one; else none.
        """
        entry = self.net.tables.table[task]
        if not all(self.tokens[condition] for condition in entry.reads):
            return 0
        possible = [self.tokens[condition] // weight for condition, weight in entry.inputs]
        if entry.join == AND:
            return min(possible)
        if entry.join == XOR:
            return sum(possible)
        if entry.join == OR:
            if self.status[task] == IDLE and not self._dirty:
                waits = task in self._ready
            else:
                # Busy, or not looked at again yet.
                waits = self.net.analysis.decide(task, self.tokens, self.status, self.seen) == _orjoin.ENABLED
            return max(possible) if waits else 0
        return int(sum(map(bool, possible)) >= entry.required and not self.seen.get(task))

    # --- moving -------------------------------------------------------------------------------------------------------

    def start(self, task: int) -> None:
        """Take the input tokens; the task becomes busy, except a detached one, whose caller passes control at once."""
        entry = self._take(task)
        if not entry.detached:
            self._set_status(task, BUSY)
        if entry.join_cancels:
            self._cancel(entry.join_cancels_conditions, entry.join_cancels_tasks, keep=task)

    def complete(self, task: int, chosen: Sequence[int]) -> None:
        """Cancel the region, release the task and put a token on each chosen output (positions in ``outputs``)."""
        if self.status[task] != BUSY:
            raise InternalError(f"task {task} cannot complete: its status is {self.status[task]}")
        self._pass_control(task, self._chosen(task, chosen), IDLE)

    def pass_on(self, task: int, chosen: Sequence[int]) -> None:
        """Pass control while instances run on: a busy task becomes draining, a detached one stays idle (rule 6)."""
        entry = self.net.tables.table[task]
        arcs = self._chosen(task, chosen)
        if entry.detached:
            self._pass_control(task, arcs, IDLE)
        elif self.status[task] == BUSY:
            self._pass_control(task, arcs, DRAINING)
        else:
            raise InternalError(f"task {task} cannot pass control: its status is {self.status[task]}")

    def fire(self, task: int, chosen: Sequence[int]) -> None:
        """Start the task and pass control at once: `start`, then `complete`, or for a detached task `pass_on`."""
        arcs = self._chosen(task, chosen)
        self.start(task)
        self._pass_control(task, arcs, IDLE)

    def release(self, task: int) -> None:
        """Make a busy or draining task idle without output: its thread of control is gone; a partial join resets, idle or not."""
        if self.status[task] == IDLE and not self.seen.get(task):
            raise InternalError(f"task {task} cannot be released: it is idle")
        self._set_status(task, IDLE)
        self.seen.pop(task, None)
        self._look(task)
        self._dirty = True

    def withdraw(self, task: int) -> None:
        """Take the tokens of a ready task without starting it: its thread of control is gone."""
        self._take(task)
        self.seen.pop(task, None)
        self._look(task)
        self._dirty = True

    def settle(self) -> bool:
        """Look again at the OR-joins, if anything changed since the last time; return whether the answer to any did."""
        if not self._dirty:
            return False
        self._dirty = False
        changed = False
        tables = self.net.tables
        for task in tables.or_joins:
            answer = _orjoin.WAITING
            if self.status[task] == IDLE and self._reads_marked(tables.table[task]):
                answer = self.net.analysis.decide(task, self.tokens, self.status, self.seen)
            if answer == _orjoin.UNDECIDED:
                self.undecided.add(task)
            else:
                self.undecided.discard(task)
            changed |= self._set_ready(task, answer == _orjoin.ENABLED)
        return changed

    def settle_before(self, task: int) -> bool:
        """
        Look again at the OR-joins, as `settle`, before a task starts that is one of them; return whether any answer changed.

        What happened since it became ready may have taken tokens from its inputs: then it waits for these again (rule 2).
        """
        return self.net.tables.table[task].join == OR and self.settle()

    def restore(self, tokens: Sequence[int], status: Sequence[int], seen: dict[int, int]) -> None:
        """Become the state that a snapshot recorded; there are no changes to tell of."""
        self.tokens = list(tokens)
        self.status = list(status)
        self.seen = dict(seen)
        self._busy = sum(1 for each in status if each != IDLE)
        self._ready = set()
        self.undecided = set()
        self._dirty = True
        self._look_at(range(len(self.status)))
        self.settle()
        self.changes()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _take(self, task: int) -> TaskTable:
        """Check that the task may start, then consume its inputs as its join says."""
        entry = self.net.tables.table[task]
        marked = [
            position for position, (condition, weight) in enumerate(entry.inputs) if self.tokens[condition] >= weight
        ]
        if not self._may_take(task, entry, len(marked)):
            raise InternalError(f"task {task} cannot start: it is not enabled")
        if entry.join == XOR:
            marked = marked[:1]
        touched: list[int] = []
        for position in marked:
            condition, weight = entry.inputs[position]
            self.tokens[condition] -= weight
            touched.append(condition)
        if entry.join == PARTIAL and not entry.join_cancels and len(marked) < len(entry.inputs):
            self.seen[task] = sum(1 << position for position in marked)
        self._look_after(touched)
        return entry

    def _may_take(self, task: int, entry: TaskTable, marked: int) -> bool:
        if self.status[task] != IDLE or not self._reads_marked(entry):
            return False
        if entry.join == AND:
            return marked == len(entry.inputs)
        if entry.join == PARTIAL:
            return marked >= entry.required and not self.seen.get(task)
        return marked > 0

    def _chosen(self, task: int, chosen: Sequence[int]) -> list[tuple[int, int]]:
        """Look the arcs up before anything is changed."""
        outputs = self.net.tables.table[task].outputs
        return [outputs[position] for position in chosen]

    def _pass_control(self, task: int, arcs: Sequence[tuple[int, int]], status: int) -> None:
        entry = self.net.tables.table[task]
        self._cancel(entry.cancels_conditions, entry.cancels_tasks, keep=task)
        if self.status[task] != status:
            self._set_status(task, status)
        if task in entry.cancels_tasks:
            self.seen.pop(task, None)
        self._put(arcs)
        self._look(task)
        self._dirty = True

    def _cancel(self, conditions: Iterable[int], tasks: Iterable[int], *, keep: int) -> None:
        """Empty the conditions and abort the tasks (rule 5); `keep` is the task whose step this is."""
        emptied = [condition for condition in conditions if self.tokens[condition]]
        for condition in emptied:
            self.tokens[condition] = 0
        for task in tasks:
            if task == keep:
                continue
            self.seen.pop(task, None)
            if self.status[task] != IDLE:
                self._set_status(task, IDLE)
            self._look(task)
        self._look_after(emptied)

    def _put(self, arcs: Iterable[tuple[int, int]]) -> None:
        swallowers = self.net.tables.swallowers
        touched: list[int] = []
        for condition, weight in arcs:
            self.tokens[condition] += weight
            touched.append(condition)
            if self.seen:
                for task, _ in swallowers[condition]:
                    touched.extend(self._swallow(task, self.net.tables.table[task]))
        self._look_after(touched)

    def _swallow(self, task: int, entry: TaskTable) -> list[int]:
        """Let a partial join in the middle of a round swallow first arrivals; return the conditions it took from (rule 4)."""
        seen = self.seen.get(task, 0)
        if not seen:
            return []
        taken: list[int] = []
        for position, (condition, weight) in enumerate(entry.inputs):
            if not seen >> position & 1 and self.tokens[condition] >= weight:
                self.tokens[condition] -= weight
                seen |= 1 << position
                taken.append(condition)
        if seen == (1 << len(entry.inputs)) - 1:
            del self.seen[task]
            self._look(task)
        else:
            self.seen[task] = seen
        return taken

    def _reads_marked(self, entry: TaskTable) -> bool:
        return all(self.tokens[condition] for condition in entry.reads)

    def _look_after(self, conditions: Iterable[int]) -> None:
        consumers = self.net.tables.consumers
        for condition in conditions:
            self._look_at(consumers[condition])
        self._dirty = True

    def _look_at(self, tasks: Iterable[int]) -> None:
        for task in tasks:
            self._look(task)

    def _look(self, task: int) -> None:
        """Decide again whether the task is ready; OR-joins wait for `settle` unless they have plainly ceased to be."""
        entry = self.net.tables.table[task]
        tokens = self.tokens
        marked = sum(1 for condition, weight in entry.inputs if tokens[condition] >= weight)
        possible = self._may_take(task, entry, marked)
        if entry.join != OR:
            self._set_ready(task, possible)
        elif not possible:
            self._set_ready(task, False)

    def _set_ready(self, task: int, ready: bool) -> bool:
        """Note whether the task is ready; return whether that is new."""
        if ready == (task in self._ready):
            return False
        if ready:
            self._ready.add(task)
            return True
        self._ready.discard(task)
        if task in self._announced:
            self._ceased.add(task)
        return True

    def _set_status(self, task: int, status: int) -> None:
        self._busy += (status != IDLE) - (self.status[task] != IDLE)
        self.status[task] = status
        self._look(task)
