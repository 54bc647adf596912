"""The stream of a case's events: from a sequence number on, to the case's end, and nothing is left out or said twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from knhk.errors import KnhkError, MissingExtra
from knhk.server import shapes
from knhk.server.observing import LOG
from knhk.server.operations import Call
from knhk.server.problems import Problem, problem_of
from knhk.server.rpc.gate import Asked, RpcGate
from knhk.server.rpc.messages import message_of
from knhk.server.rpc.methods import Method
from knhk.server.rpc.statuses import code_of, metadata_of, text_of
from knhk.server.service import LONGEST_PAGE

try:
    import grpc  # noqa: TC002 - as the rest
except ImportError as error:
    raise MissingExtra("grpc", "serving gRPC") from error

LOOK: Final = 0.25
"""Seconds between looks at a case that stands still."""


def watch(gate: RpcGate, method: Method, messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    """
    Say what has happened in a case from a sequence number on, and what happens, until it ends.

    Who asks goes through the gate once, and his token is looked at as long as he listens.
    """
    asked, _ = gate.ask(method, messages, context)
    assert asked.call is not None
    # Whoever listens knows from here on that he is heard, however long nothing happens.
    context.send_initial_metadata(())
    try:
        for event in _follow(gate, asked, asked.call):
            yield message_of(event, method.gives).SerializeToString()
    except Exception as error:  # noqa: BLE001 - nobody is told of what nobody foresaw
        problem = problem_of(error) if isinstance(error, KnhkError) else Problem(kind="internal")
        if problem.kind == "internal":
            LOG.error("a stream failed", exc_info=error, extra={"operation": method.operation.name})
        context.set_trailing_metadata(metadata_of(problem))
        context.abort(code_of(problem), text_of(problem))


def _follow(gate: RpcGate, asked: Asked, call: Call) -> Iterator[shapes.Event]:
    case = call.path["case_id"]
    after: int = asked.said.get("after", 0)
    seen = -1
    while True:
        # Before the events are read, so that what happens meanwhile is seen at the next look.
        version, ended = gate.service.case_standing(call.caller, case)
        if version != seen:
            for event in _since(call, case, after):
                after = event.sequence
                yield event
            seen = version
        if ended:
            return
        if gate.service.polls.pause(LOOK):
            raise Problem(kind="draining", detail="this instance ends; watch on another one from where you are")
        if asked.left() <= 0:
            raise Problem(kind="deadline", detail="watch on from where you are")
        gate.identify(asked.one("authorization"), asked.address)


def _since(call: Call, case: str, after: int) -> Iterator[shapes.Event]:
    following: str | None = str(after)
    while following is not None:
        page = call.service.case_history(call.caller, case, limit=LONGEST_PAGE, after=following)
        yield from page.items
        following = page.next
