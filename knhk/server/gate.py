"""What stands between a call and the service, the same for every protocol.

What a call goes through, in this order, and no further than the first refusal: who sends it, and how often his address failed
to say so; how much he sends; whether his roles allow what the call names; only then what is in its address, its query and its
body, and at last whether the thing is there.
Every call, also one that is refused, is recorded once, counted once and has one line in the log.
"""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Final, Generic, Self, TypeVar

import attrs

from knhk.errors import KnhkError
from knhk.server.audit import AuditLog, Pending, announced
from knhk.server.figures import Figures
from knhk.server.identity import ANONYMOUS, DEFAULT_TENANT, Caller, Unauthenticated, Verifier
from knhk.server.observing import LOG, Stopwatch, in_trace, log_call
from knhk.server.operations import Call, Operation, Reply
from knhk.server.problems import Problem, problem_of
from knhk.server.rates import Rates, Standing
from knhk.server.record import LONGEST_RESOURCE, Entry
from knhk.server.rights import may
from knhk.server.service import Service
from knhk.work.spans import Attributes, Span, Tracer

_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Gate(ABC, Generic[Asked, Answer]):
    """
    Lets calls of one protocol through to the service; a subclass says what is the protocol's own.

    Args:
        service: does it.
        verifier: says who asks; None where everybody may do everything.
        rates: how much; None for no limit.
        audit: where every call is recorded; None for nowhere.
        figures: where it is counted.
        now: milliseconds since the epoch.
        region: of this instance, for the record.
        tracer: is told of each call; None: nobody is.
    """

    def __init__(
        self,
        service: Service,
        verifier: Verifier | None,
        rates: Rates | None,
        audit: AuditLog | None,
        figures: Figures,
        now: Callable[[], int],
        *,
        region: str = "",
        tracer: Tracer | None = None,
    ) -> None:
        self.tracer = tracer
        self.region = region
        self.service = service
        self.verifier = verifier
        self.rates = rates
        self.audit = audit
        self.figures = figures
        self.now = now

    @classmethod
    def beside(cls, other: Gate[Any, Any]) -> Self:
        """Return a gate of this protocol to the service of another one, with everything that is one for all protocols."""
        return cls(
            other.service,
            other.verifier,
            other.rates,
            other.audit,
            other.figures,
            other.now,
            region=other.region,
            tracer=other.tracer,
        )

    def handle(
        self, asked: Asked, answer: Answer, operation: Operation | None, path: Mapping[str, str], otherwise: Problem
    ) -> None:
        """
        Answer a call.

        Args:
            asked: the call.
            answer: is written.
            operation: what is asked for; None: nothing that there is.
            path: the names in it of what it is about, complete once its sender is known.
            otherwise: what is answered where there is no operation.
        """
        with ExitStack() as inside:
            span = None
            if self.tracer is not None:
                span = inside.enter_context(self.begun(self.tracer, asked, operation))
            trace = self._trace(asked)
            inside.enter_context(in_trace(trace))
            self.say_trace(answer, trace)
            self._handle(asked, answer, operation, path, otherwise, trace, span)
            if span is not None:
                span.describe(self.ended(answer))

    def _handle(
        self,
        asked: Asked,
        answer: Answer,
        operation: Operation | None,
        path: Mapping[str, str],
        otherwise: Problem,
        trace: str,
        span: Span | None,
    ) -> None:
        watch = Stopwatch()
        name = operation.name if operation is not None else "none"
        caller: Caller | None = None
        pending: Pending | None = None
        told: dict[str, str] = {}
        try:
            caller = self.caller(asked)
            standing = self._admitted(caller)
            permitted = self._permitted(operation, caller, otherwise)
            call = self.call(asked, permitted, caller, path)
            if self.audit is not None and permitted.changes:
                entry = self._entry(permitted, caller, path, permitted.status, trace)
                pending = Pending(self.audit, entry, in_documents=permitted.changes == "documents")
            with announced(pending):
                reply = permitted.run(call)
            told = _named(reply.body)
            self.answer(asked, answer, reply, standing, caller)
            status = reply.status
        except Exception as error:  # noqa: BLE001 - what nobody foresaw is counted and recorded like the rest
            problem = problem_of(error) if isinstance(error, KnhkError) else Problem(kind="internal")
            if problem.kind == "internal":
                LOG.error("a call failed", exc_info=error, extra={"operation": name})
                if span is not None:
                    span.fail(error)
            self.refuse(asked, answer, problem, caller)
            status = problem.status
        seconds = watch.seconds()
        self._note(operation, caller, {**told, **path}, status, seconds, trace)
        if self.audit is not None:
            self._record(self.audit, pending, self._entry(operation, caller, path, status, trace))

    # --- what a protocol says in its own way ------------------------------------------------------------------------

    @abstractmethod
    def begun(self, tracer: Tracer, asked: Asked, operation: Operation | None) -> AbstractContextManager[Span]:
        """Return the span of a call, in the trace that its caller has named."""

    @abstractmethod
    def ended(self, answer: Answer) -> Attributes:
        """Return what the span says of an answer that is written."""

    @abstractmethod
    def traceparent(self, asked: Asked) -> str:
        """Return in which trace its caller says a call is, as W3C Trace Context has it; "" where he says nothing."""

    @abstractmethod
    def say_trace(self, answer: Answer, trace: str) -> None:
        """Tell the caller under which id his call is found."""

    @abstractmethod
    def caller(self, asked: Asked) -> Caller:
        """Return who calls; raises Problem."""

    @abstractmethod
    def call(self, asked: Asked, operation: Operation, caller: Caller, path: Mapping[str, str]) -> Call:
        """Return what is asked for; raises Problem where it is not right."""

    @abstractmethod
    def answer(self, asked: Asked, answer: Answer, reply: Reply, standing: Standing | None, caller: Caller) -> None:
        """Write what was done."""

    @abstractmethod
    def refuse(self, asked: Asked, answer: Answer, problem: Problem, caller: Caller | None) -> None:
        """Write why it was not."""

    # --- what is the same for all -----------------------------------------------------------------------------------

    def _record(self, audit: AuditLog, pending: Pending | None, entry: Entry) -> None:
        """Record a call, unless the transaction of its change has done so, and rightly."""
        left = entry if pending is None else pending.left(entry)
        if left is not None:
            audit.add(left)

    def _entry(
        self, operation: Operation | None, caller: Caller | None, path: Mapping[str, str], status: int, trace: str
    ) -> Entry:
        return Entry(
            at=self.now(),
            tenant=caller.tenant if caller is not None else DEFAULT_TENANT,
            subject=caller.subject if caller is not None else "",
            operation=operation.name if operation is not None else "none",
            resource=path.get(operation.resource, "")[:LONGEST_RESOURCE] if operation is not None else "",
            outcome=status,
            trace=trace,
            region=self.region,
        )

    def identify(self, authorization: str | None, address: str) -> Caller:
        """Return who sends this ``Authorization`` from this address; raises Problem where it does not count."""
        if self.verifier is None:
            return ANONYMOUS
        try:
            return self.verifier.caller(authorization)
        except Unauthenticated as error:
            # Only those who fail are counted by their address: behind a proxy all others have the same.
            if self.rates is not None:
                self.rates.admit_stranger(address)
            self.figures.refused.labels("unauthenticated").inc()
            LOG.info("no valid token", extra={"reason": str(error)[:200]})
            raise Problem(kind="unauthenticated", headers={"WWW-Authenticate": "Bearer"}) from None

    def _admitted(self, caller: Caller) -> Standing | None:
        try:
            return None if self.rates is None else self.rates.admit(caller.client)
        except Problem:
            self.figures.refused.labels("rate-limited").inc()
            raise

    def _permitted(self, operation: Operation | None, caller: Caller, otherwise: Problem) -> Operation:
        if operation is None:
            # A new one for each call: an exception keeps where it has been.
            raise attrs.evolve(otherwise)
        if not may(caller.roles, operation.name):
            self.figures.refused.labels("forbidden").inc()
            raise Problem(kind="forbidden")
        return operation

    def _trace(self, asked: Asked) -> str:
        ids = None if self.tracer is None else self.tracer.ids()
        if ids is not None:
            return ids[0]
        match = _TRACE.fullmatch(self.traceparent(asked))
        return match[1] if match is not None and set(match[1]) != {"0"} else secrets.token_hex(16)

    def _note(
        self,
        operation: Operation | None,
        caller: Caller | None,
        path: Mapping[str, str],
        status: int,
        seconds: float,
        trace: str,
    ) -> None:
        name = operation.name if operation is not None else "none"
        self.figures.answered(name, status, seconds)
        if name == "pattern.execute" and status == 200:
            self.figures.patterns.labels(path["number"]).observe(seconds)
        subject = caller.subject if caller is not None else ""
        log_call(operation=name, status=status, seconds=seconds, path=dict(path), trace=trace, subject=subject or None)


def _named(body: Any) -> dict[str, str]:
    """Return of which workflow and case an answer speaks, where its request has not said it."""
    found = {name: getattr(body, name, None) for name in ("spec_id", "case_id")}
    return {name: value for name, value in found.items() if isinstance(value, str)}
