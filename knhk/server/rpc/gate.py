"""What a call over gRPC goes through: `knhk.server.gate`, with metadata for headers and messages for addresses and bodies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

import attrs

from knhk.errors import MissingExtra
from knhk.errors import Problem as Finding
from knhk.rpc import SERVICE
from knhk.server.gate import Gate
from knhk.server.identity import Caller
from knhk.server.operations import Call, Operation, Reply
from knhk.server.problems import Problem
from knhk.server.rates import Standing
from knhk.server.reading import body_of, check_path, read_key, read_query
from knhk.server.rpc.arriving import Arrivals
from knhk.server.rpc.messages import JSON_FIELDS, message_of, parsed, tree_of
from knhk.server.rpc.methods import Method
from knhk.server.rpc.statuses import Metadata, code_of, headers_of, metadata_of, text_of
from knhk.spec import Specification
from knhk.spec.json_text import read_json
from knhk.spec.yaml_text import read_yaml
from knhk.work.spans import Attributes, Span, Tracer, spanned

try:
    import grpc
except ImportError as error:
    raise MissingExtra("grpc", "serving gRPC") from error

LONGEST_CALL: Final = 30.0
"""Seconds that a call takes at the most, whatever its caller allows."""

LONGEST_WATCH: Final = 3_600.0
"""Seconds that a stream lasts at the most."""

MOST_WATCHES: Final = 32
"""Streams at once, each with a thread; further ones are refused for now."""

TRACE: Final = "trace-id"
_LONGEST_NAME: Final = 256
_NO_METHOD: Final = Problem(kind="method-not-allowed", detail=f"this is no method of {SERVICE}")


@attrs.define(kw_only=True, eq=False)
class Asked:
    """
    A call.

    Args:
        method: which; None for one that there is not.
        message: waits for the message, and gives it as it came; raises Problem where none comes.
        context: the library's.

    Attributes:
        names: what the message is about, once its sender is known.
        said: the rest of the message.
        wrong: why the message cannot be read.
        call: what was asked for, once it is checked.
    """

    method: Method | None
    message: Callable[[], bytes]
    context: grpc.ServicerContext
    begun: float = attrs.field(factory=time.monotonic)
    metadata: Mapping[str, list[str]] = attrs.field(init=False)
    names: dict[str, str] = attrs.field(factory=dict)
    said: dict[str, Any] = attrs.field(factory=dict)
    wrong: Problem | None = None
    call: Call | None = None

    def __attrs_post_init__(self) -> None:
        self.metadata = {}
        for name, value in self.context.invocation_metadata():
            if isinstance(value, str):
                self.metadata.setdefault(name, []).append(value)

    def one(self, name: str) -> str | None:
        """Return what the metadata say under a name; several are joined, as headers are."""
        values = self.metadata.get(name)
        return None if values is None else ", ".join(values)

    @property
    def address(self) -> str:
        """The address that the call comes from."""
        kind, _, rest = unquote(self.context.peer()).partition(":")
        return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else rest

    def left(self) -> float:
        """Return how many seconds the caller still waits, and we work; 0 where he has gone."""
        if not self.context.is_active():
            return 0.0
        longest = LONGEST_WATCH if self.method is not None and self.method.streams else LONGEST_CALL
        return max(0.0, min(longest - (time.monotonic() - self.begun), self.context.time_remaining()))

    def look(self) -> None:
        """Read the message, now that its sender is known; what is wrong with it matters when he may send it."""
        if self.method is None:
            return
        try:
            message = parsed(self.message(), self.method.takes)
        except Problem as problem:
            self.wrong = problem
            return
        self.said = tree_of(message)
        for name in self.method.names:
            self.said.pop(name, None)
            self.names[name] = str(getattr(message, name))[:_LONGEST_NAME]


@attrs.define(eq=False)
class Answer:
    """
    What a call is answered.

    Attributes:
        reply: what was done; None where it was refused.
        raw: that as a message.
        problem: why it was refused.
        trailing: metadata behind it.
    """

    reply: Reply | None = None
    raw: bytes = b""
    problem: Problem | None = None
    trailing: Metadata = attrs.field(factory=list)


class RpcGate(Gate[Asked, Answer]):
    """
    What stands between a call over gRPC and the service; see `knhk.server.gate`.

    Attributes:
        arrivals: waits for messages.
    """

    def __init__(self, *shared: Any, **more: Any) -> None:
        super().__init__(*shared, **more)
        self.arrivals = Arrivals()
        self._watches = threading.BoundedSemaphore(MOST_WATCHES)

    def ask(
        self, method: Method | None, messages: Iterator[bytes], context: grpc.ServicerContext
    ) -> tuple[Asked, Answer]:
        """Put a call through; ends it with a status where it is refused."""
        message = partial(self.arrivals.message, messages, context)
        asked, answer = Asked(method=method, message=message, context=context), Answer()
        self.handle(asked, answer, None if method is None else method.operation, asked.names, _NO_METHOD)
        context.set_trailing_metadata(answer.trailing)
        if answer.problem is not None:
            context.abort(code_of(answer.problem), text_of(answer.problem))
        return asked, answer

    def begun(self, tracer: Tracer, asked: Asked, operation: Operation | None) -> AbstractContextManager[Span]:
        """Return the span of a call, in the trace that its caller has named."""
        about = {"rpc.system": "grpc", "rpc.service": SERVICE}
        name = SERVICE
        if asked.method is not None and operation is not None:
            about |= {"rpc.method": asked.method.name, "knhk.operation": operation.name}
            name = f"{SERVICE}/{asked.method.name}"
        carrier = {each: asked.one(each) or "" for each in ("traceparent", "tracestate")}
        return spanned(tracer, name, about, kind="server", parent=carrier)

    def ended(self, answer: Answer) -> Attributes:
        """Return what the span says of the answer."""
        code = grpc.StatusCode.OK if answer.problem is None else code_of(answer.problem)
        return {"rpc.grpc.status_code": code.value[0]}

    def traceparent(self, asked: Asked) -> str:
        """Return in which trace its caller says a call is."""
        return asked.one("traceparent") or ""

    def say_trace(self, answer: Answer, trace: str) -> None:
        """Tell the caller under which id his call is found."""
        answer.trailing.append((TRACE, trace))

    def caller(self, asked: Asked) -> Caller:
        """Return who calls; raises Problem."""
        caller = self.identify(asked.one("authorization"), asked.address)
        asked.look()
        return caller

    def call(self, asked: Asked, operation: Operation, caller: Caller, path: Mapping[str, str]) -> Call:
        """Return what is asked for; raises Problem where it is not right, or nobody waits for it any more."""
        if asked.wrong is not None:
            raise asked.wrong
        if asked.left() <= 0:
            raise Problem(kind="deadline")
        check_path(path)
        said = dict(asked.said)
        expected = said.pop("if_version", None)
        if said.pop("after", 0) < 0:
            finding = Finding("after", "must be 0 or more")
            raise Problem(kind="invalid", detail="there is no such sequence number", findings=(finding,))
        in_query = {*operation.query, "limit", "cursor"} if operation.takes is None else set()
        params = {name: str(said.pop(name)) for name in in_query & said.keys()}
        query, limit, after = read_query(params, operation)
        if asked.method is not None and asked.method.streams:
            self._take_place(asked.context)
        asked.call = Call(
            service=self.service,
            caller=caller,
            path=path,
            query=query,
            body=None if operation.takes is None else _body(said, operation),
            expected=expected,
            key=read_key(asked.one("idempotency-key"), operation),
            limit=limit,
            after=after,
            left=asked.left,
        )
        return asked.call

    def _take_place(self, context: grpc.ServicerContext) -> None:
        """Let a call stream, until it ends; raises Problem where too many do."""
        if not self._watches.acquire(blocking=False):
            detail = f"{MOST_WATCHES} cases are watched, which is as many as can be at once"
            raise Problem(kind="rate-limited", detail=detail, headers={"Retry-After": "5"})
        if not context.add_callback(self._watches.release):
            self._watches.release()
            raise Problem(kind="deadline")

    def answer(self, asked: Asked, answer: Answer, reply: Reply, standing: Standing | None, caller: Caller) -> None:
        """Write what was done."""
        del caller
        assert asked.method is not None
        if not asked.method.streams:
            answer.raw = message_of(reply.body, asked.method.gives).SerializeToString()
        answer.reply = reply
        if reply.version is not None:
            answer.trailing.append(("etag", f'"{reply.version}"'))
        if standing is not None:
            answer.trailing += headers_of(standing.headers())

    def refuse(self, asked: Asked, answer: Answer, problem: Problem, caller: Caller | None) -> None:
        """Write why it was not."""
        del asked, caller
        answer.problem = problem
        answer.trailing += metadata_of(problem)


def _body(said: dict[str, Any], operation: Operation) -> Any:
    """Return the body that a message has; raises KnhkError where it is none."""
    if operation.specification and "yaml" in said:
        return Specification.from_dict(read_yaml(said["yaml"]))
    return body_of({name: read_json(each) if name in JSON_FIELDS else each for name, each in said.items()}, operation)
