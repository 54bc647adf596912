"""
SpiffWorkflow: the core library, with specifications written in Python.

After https://spiffworkflow.readthedocs.io/en/stable/core/index.html ("Tutorial", "Implementing Custom Tasks"): task
specifications connected in a `WorkflowSpec`, a subclass of `Simple` for a task that does something, and `run_all`.
It leaves storing to the application, as its example application does: serialised workflows in rows of a table.
SpiffWorkflow is under the LGPL; this program runs by itself and is no part of KNHK.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from SpiffWorkflow import Workflow
from SpiffWorkflow.operators import Assign, Attrib, Equal, LessThan
from SpiffWorkflow.serializer.json import JSONSerializer
from SpiffWorkflow.specs import ExclusiveChoice, Join, MultiChoice, MultiInstance, Simple, WorkflowSpec
from SpiffWorkflow.util.task import TaskState

from benchmarks.peers.protocol import Run, Worker, expect, serve

NO_STORE = "it has no store"


class Work(Simple):  # type: ignore[misc]
    """A task that does something."""

    def _on_complete_hook(self, my_task: Any) -> None:
        super()._on_complete_hook(my_task)
        work(my_task)


def work(_task: Any) -> None:
    """Do a task's work."""


class Counting(Simple):  # type: ignore[misc]
    """A task that counts how often it ran."""

    def _on_complete_hook(self, my_task: Any) -> None:
        my_task.data["n"] = my_task.data.get("n", 0) + 1
        super()._on_complete_hook(my_task)


class SpiffWorkflow(Worker):
    """The library."""

    name = "SpiffWorkflow"
    version = version("SpiffWorkflow")
    absent: ClassVar[Mapping[str, str]] = {"durable": NO_STORE}

    def __init__(self) -> None:
        self._waiting: Any = None

    def sequence(self, size: int, _folder: str) -> Run:
        """Tasks in a row."""
        spec = WorkflowSpec("sequence", addstart=True)
        last = spec.start
        for number in range(size):
            task = Work(spec, f"t{number}")
            last.connect(task)
            last = task
        return _runs(spec, size)

    def parallel(self, size: int, _folder: str) -> Run:
        """A task with several outputs, and a `Join`."""
        spec = WorkflowSpec("parallel", addstart=True)
        fork, join = Work(spec, "fork"), Join(spec, "join", split_task="fork")
        spec.start.connect(fork)
        for number in range(size):
            branch = Work(spec, f"b{number}")
            fork.connect(branch)
            branch.connect(join)
        return _runs(spec, size + 2)

    def choice(self, size: int, _folder: str) -> Run:
        """`ExclusiveChoice`; the second branch is taken."""
        spec = WorkflowSpec("choice", addstart=True)
        fork, join = ExclusiveChoice(spec, "fork", pre_assign=[Assign("branch", right="1")]), Work(spec, "join")
        spec.start.connect(fork)
        for number in range(size):
            branch = Work(spec, f"b{number}")
            if number < size - 1:
                fork.connect_if(Equal(Attrib("branch"), str(number)), branch)
            else:
                fork.connect(branch)
            branch.connect(join)
        return _runs(spec, 3)

    def some(self, size: int, _folder: str) -> Run:
        """`MultiChoice` and a `Join` of what it split; two branches are taken."""
        spec = WorkflowSpec("some", addstart=True)
        taken = [Assign(f"branch{number}", right="yes" if number < 2 else "no") for number in range(size)]
        fork, join = MultiChoice(spec, "fork", pre_assign=taken), Join(spec, "join", split_task="fork")
        spec.start.connect(fork)
        for number in range(size):
            branch = Work(spec, f"b{number}")
            fork.connect_if(Equal(Attrib(f"branch{number}"), "yes"), branch)
            branch.connect(join)
        return _runs(spec, 4)

    def loop(self, size: int, _folder: str) -> Run:
        """`ExclusiveChoice` leads back until the task has run so often."""
        spec = WorkflowSpec("loop", addstart=True)
        turn, again, end = Counting(spec, "turn"), ExclusiveChoice(spec, "again"), Simple(spec, "done")
        spec.start.connect(turn)
        turn.connect(again)
        again.connect(end)
        again.connect_if(LessThan(Attrib("n"), size), turn)
        return _runs(spec, size)

    def instances(self, size: int, _folder: str) -> Run:
        """`MultiInstance`, the task, and a `Join`."""
        spec = WorkflowSpec("instances", addstart=True)
        multiple, each = MultiInstance(spec, "multiple", times=size), Work(spec, "each")
        join = Join(spec, "join", split_task="multiple")
        spec.start.connect(multiple)
        multiple.connect(each)
        each.connect(join)
        return _runs(spec, size)

    def idle(self, number: int) -> object:
        """A workflow whose next task is manual."""
        if self._waiting is None:
            self._waiting = _waits()
        workflow = Workflow(self._waiting)
        workflow.set_data(order=number)
        workflow.run_all()
        expect(workflow.manual_input_required() and not workflow.is_completed(), "the workflow does not wait")
        return workflow

    def leave(self, folder: str, count: int) -> None:
        """Leave serialised workflows in a table."""
        serializer, spec = JSONSerializer(), _waits()
        with sqlite3.connect(Path(folder, "cases.db")) as connection:
            connection.execute("CREATE TABLE workflows (id INTEGER PRIMARY KEY, state TEXT NOT NULL)")
            for number in range(count):
                workflow = Workflow(spec)
                workflow.set_data(order=number)
                workflow.run_all()
                state = workflow.serialize(serializer)
                connection.execute("INSERT INTO workflows (id, state) VALUES (?, ?)", (number, state))

    def restart(self, folder: str, count: int) -> None:
        """Read all workflows, list the tasks they wait for, run one and write its workflow."""
        serializer = JSONSerializer()
        with sqlite3.connect(Path(folder, "cases.db")) as connection:
            waiting = []
            for number, state in connection.execute("SELECT id, state FROM workflows"):
                workflow = Workflow.deserialize(serializer, state)
                waiting += [(number, workflow, task) for task in workflow.get_tasks(state=TaskState.READY, manual=True)]
            expect(len(waiting) == count, f"{len(waiting)} of {count} tasks wait")
            number, workflow, task = waiting[0]
            task.run()
            workflow.run_all()
            state = workflow.serialize(serializer)
            connection.execute("UPDATE workflows SET state = ? WHERE id = ?", (state, number))


def _waits() -> Any:
    spec = WorkflowSpec("waits", addstart=True)
    last = spec.start
    for number in range(3):
        task = Simple(spec, f"t{number}", manual=True)
        last.connect(task)
        last = task
    return spec


def _runs(spec: Any, least: int) -> Run:
    """Return what runs a workflow; it must complete, after at least so many tasks."""
    checked = False

    def run() -> None:
        nonlocal checked
        workflow = Workflow(spec)
        workflow.run_all()
        expect(workflow.is_completed())
        if not checked:
            # Once: counting walks the whole tree of tasks, which is no part of running it.
            expect(len(workflow.get_tasks(state=TaskState.COMPLETED)) >= least, "tasks were left out")
            checked = True

    return run


if __name__ == "__main__":
    # Its tree of tasks is as deep as a sequence is long, and it walks it recursively.
    sys.setrecursionlimit(50_000)
    serve(SpiffWorkflow())
