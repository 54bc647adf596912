"""
LangGraph: a graph of functions over a state.

After https://docs.langchain.com/oss/python/langgraph/graph-api (nodes, edges, conditional edges, `Send`) and
https://docs.langchain.com/oss/python/langgraph/persistence (`SqliteSaver`, a thread a case, `interrupt` and
`Command(resume=...)`).
``durability="sync"`` is what it calls a checkpoint that is written before the next step begins; its saver puts the file
into WAL mode, with SQLite's default of FULL.
"""

from __future__ import annotations

import itertools
import operator
import sqlite3
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from benchmarks.peers.protocol import Run, Worker, expect, serve


class State(TypedDict, total=False):
    """A case's data; `n` counts the tasks that ran."""

    n: Annotated[int, operator.add]
    branch: int


class LangGraph(Worker):
    """The library."""

    name = "LangGraph"
    version = version("langgraph")
    absent: ClassVar[Mapping[str, str]] = {"idle": "a thread that waits is in its file, not in memory"}

    def sequence(self, size: int, _folder: str) -> Run:
        """Nodes in a row."""
        return _runs(_sequence(size).compile(), size, size)

    def parallel(self, size: int, _folder: str) -> Run:
        """A node with several edges, and one that waits for all of them."""
        names = [f"b{number}" for number in range(size)]
        graph = _graph("fork", *names, "join")
        graph.add_edge(START, "fork")
        for each in names:
            graph.add_edge("fork", each)
        graph.add_edge(names, "join")
        graph.add_edge("join", END)
        return _runs(graph.compile(), size + 2, size)

    def choice(self, size: int, _folder: str) -> Run:
        """Conditional edges; the second branch is taken."""
        names = [f"b{number}" for number in range(size)]
        graph = _graph("fork", *names, "join")
        graph.add_edge(START, "fork")
        graph.add_conditional_edges("fork", lambda state: names[state["branch"]], names)
        for each in names:
            graph.add_edge(each, "join")
        graph.add_edge("join", END)
        return _runs(graph.compile(), 3, size)

    def some(self, size: int, _folder: str) -> Run:
        """Conditional edges that name two nodes, whose common successor runs when both have run."""
        names = [f"b{number}" for number in range(size)]
        graph = _graph("fork", *names, "join")
        graph.add_edge(START, "fork")
        graph.add_conditional_edges("fork", lambda _state: names[:2], names)
        for each in names:
            graph.add_edge(each, "join")
        graph.add_edge("join", END)
        return _runs(graph.compile(), 4, size)

    def loop(self, size: int, _folder: str) -> Run:
        """A conditional edge back while the count is too small."""
        graph = _graph("turn")
        graph.add_edge(START, "turn")
        graph.add_conditional_edges("turn", lambda state: "turn" if state["n"] < size else END, ["turn", END])
        return _runs(graph.compile(), size, size)

    def instances(self, size: int, _folder: str) -> Run:
        """`Send`, once an instance."""
        graph = _graph("each")
        graph.add_conditional_edges(START, lambda _state: [Send("each", {"n": 0}) for _ in range(size)], ["each"])
        graph.add_edge("each", END)
        return _runs(graph.compile(), size, size)

    def durable(self, size: int, folder: str) -> Run:
        """Nodes in a row, each with its checkpoint."""
        graph = _sequence(size).compile(checkpointer=_saver(folder))
        numbers = itertools.count()

        def run() -> None:
            config: Any = {"configurable": {"thread_id": str(next(numbers))}, "recursion_limit": size + 10}
            expect(graph.invoke({"n": 0, "branch": 1}, config, durability="sync")["n"] == size)

        return run

    def leave(self, folder: str, count: int) -> None:
        """Leave threads that were interrupted."""
        graph = _waits(folder)
        for number in range(count):
            expect("__interrupt__" in graph.invoke({"n": 0}, _thread(number), durability="sync"))

    def restart(self, folder: str, count: int) -> None:
        """Open the file, list what all threads wait for, and resume one."""
        graph = _waits(folder)
        waiting = [number for number in range(count) if graph.get_state(_thread(number)).next]
        expect(len(waiting) == count, f"{len(waiting)} of {count} threads wait")
        graph.invoke(Command(resume=True), _thread(waiting[0]), durability="sync")


def work(_state: State) -> State:
    """Do a task's work."""
    return {"n": 1}


def approve(_state: State) -> State:
    """Wait for a person."""
    interrupt("approve?")
    return {"n": 1}


def _graph(*names: str) -> Any:
    graph = StateGraph(State)
    for each in names:
        graph.add_node(each, work)
    return graph


def _sequence(size: int) -> Any:
    names = [f"t{number}" for number in range(size)]
    graph = _graph(*names)
    for a, b in itertools.pairwise([START, *names, END]):
        graph.add_edge(a, b)
    return graph


def _waits(folder: str) -> Any:
    graph = StateGraph(State)
    names = ["t0", "t1", "t2"]
    for each in names:
        graph.add_node(each, approve)
    for a, b in itertools.pairwise([START, *names, END]):
        graph.add_edge(a, b)
    return graph.compile(checkpointer=_saver(folder))


def _saver(folder: str) -> SqliteSaver:
    # One connection for all threads, as its documentation has it; the saver has a lock of its own.
    return SqliteSaver(sqlite3.connect(Path(folder, "cases.sqlite"), check_same_thread=False))


def _thread(number: int) -> Any:
    return {"configurable": {"thread_id": f"case-{number}"}}


def _runs(graph: Any, expected: int, size: int) -> Run:
    config: Any = {"recursion_limit": size + 25}

    def run() -> None:
        expect(graph.invoke({"n": 0, "branch": 1}, config)["n"] == expected)

    return run


if __name__ == "__main__":
    serve(LangGraph())
