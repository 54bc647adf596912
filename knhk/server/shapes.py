"""What goes over the wire: request and answer bodies, from which both the checks and the description of the API are made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Text = Annotated[str, msgspec.Meta(max_length=2_000)]
Data = dict[str, Any]


class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):  # type: ignore[call-arg] # where it is not installed
    """A request's body: members that are not named here are refused."""


class Answer(msgspec.Struct, kw_only=True):  # type: ignore[call-arg] # where it is not installed
    """An answer's body."""


# --- requests -------------------------------------------------------------------------------------------------------------


class RegisterWorkflow(Body):
    """A specification, as it is written in a file."""

    spec: Data


class CreateCase(Body):
    """A new case of a registered workflow."""

    spec_id: Name
    data: Data = {}
    version: Name | None = None
    start: bool = False


class SendEvent(Body):
    """An event for the tasks of a case that wait for it."""

    name: Name
    data: Data = {}


class Allocate(Body):
    """To whom a work item is given; without a name, to the caller."""

    to: Name | None = None


class CompleteItem(Body):
    """What the work gave."""

    data: Data = {}


class FailItem(Body):
    """Why the work failed."""

    reason: Text = ""


class Delegate(Body):
    """To whom an allocated work item is handed on."""

    to: Name


class Subscribe(Body):
    """Who is told of what: a URL, and types of messages; ``*`` for all."""

    url: Text
    events: list[Name] = msgspec.field(default_factory=lambda: ["*"])
    spec_id: Name | None = None
    with_data: bool = True


class ClaimWork(Body):
    """Which work a worker wants, how much of it, for how long, and how long he waits for it, in seconds."""

    topics: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=100)]
    worker: Name | None = None
    max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    lease: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None
    wait: Annotated[float, msgspec.Meta(ge=0, le=20)] = 0.0


class CompleteWork(Body):
    """What claimed work gave; the token is the claim's."""

    token: Name
    data: Data = {}


class FailWork(Body):
    """Why claimed work failed, and whether, and after how many seconds, another attempt may help."""

    token: Name
    reason: Text = ""
    error: Annotated[str, msgspec.Meta(max_length=128)] = ""
    retryable: bool = True
    retry_after: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] | None = None


class ExtendWork(Body):
    """For how many seconds from now on claimed work is kept."""

    token: Name
    lease: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None


class ReleaseWork(Body):
    """Claimed work is given back; the token is the claim's."""

    token: Name


class Discard(Body):
    """Why work that failed for good is given up."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]


class ExecutePattern(Body):
    """The first data of the pattern's case."""

    variables: Data = {}


# --- answers --------------------------------------------------------------------------------------------------------------


class Finding(Answer):
    """One thing that is wrong."""

    place: str
    message: str


class Soundness(Answer):
    """Whether every case can complete, properly."""

    verdict: Literal["sound", "unsound", "undecided"]
    problems: list[Data]


class Registered(Answer):
    """A registered workflow."""

    spec_id: str
    version: str
    soundness: Soundness


class Workflow(Answer):
    """A registered workflow, in a list."""

    spec_id: str
    version: str
    name: str
    content_hash: str


class WholeWorkflow(Workflow):
    """A registered workflow with its specification."""

    spec: Data
    soundness: Soundness


class CaseLine(Answer):
    """A case, in a list: whether automatic work waits in it, and why it is set aside, if it is."""

    case_id: str
    spec_id: str
    spec_version: str
    state: str
    version: int
    next_due: str | None
    runnable: bool
    quarantined: str


class Case(CaseLine):
    """
    A case: its data, the tokens of each running net by condition, what is offered and what has started.

    `worklets` are the cases that run in the place of its work, and `stands_in_for` the work item in whose place it runs itself.
    """

    data: Data
    marking: dict[str, dict[str, int]]
    enabled: list[str]
    running: list[str]
    problems: list[str]
    worklets: list[str]
    stands_in_for: str | None


class Event(Answer):
    """Something that happened in a case."""

    sequence: int
    at: str
    kind: str
    path: str
    details: Data


class Delivered(Answer):
    """How many running nets of the case kept the event."""

    kept: int
    case: Case


class Item(Answer):
    """An open work item."""

    id: str
    case_id: str
    number: int
    path: str
    state: str
    by: str
    roles: list[str]
    topic: str
    audience: list[str]


class WholeItem(Item):
    """An open work item with what the work is given."""

    data: Data


class Claim(Answer):
    """External work that a worker has until the deadline, for `lease` seconds; the token is needed for every word about it."""

    id: str
    token: str
    case_id: str
    number: int
    path: str
    topic: str
    worker: str
    attempt: int
    deadline: str
    lease: float
    data: Data
    item: Any
    index: int | None


class Failed(Answer):
    """Whether failed work is taken care of: tried again, or by an error flow; else it is a dead letter."""

    handled: bool


class Extended(Answer):
    """When the lease ends, and in how many seconds that is."""

    deadline: str
    lease: float


class DeadLetter(Answer):
    """Work that has failed for good, or a message of a webhook that did not arrive: its `kind` is ``work`` or ``message``."""

    id: str
    kind: str
    webhook: str
    case_id: str
    number: int
    path: str
    spec_id: str
    spec_version: str
    handler: str
    topic: str
    reason: str
    error: str
    at: str | None
    attempts: int
    attempt: int
    digest: str
    where: str


class WholeDeadLetter(DeadLetter):
    """One with what its work is given, or what the message says, and which of several instances it is."""

    data: Data | None
    item: Any
    index: int | None


class Webhook(Answer):
    """A subscription."""

    id: str
    url: str
    events: list[str]
    spec_id: str | None
    with_data: bool
    paused: bool


class NewWebhook(Webhook):
    """A subscription that was made just now, with the secret that signs its messages."""

    secret: str


class Pattern(Answer):
    """A pattern of the catalogue."""

    number: int
    name: str
    category: str
    description: str
    variables: dict[str, str]


class WholePattern(Pattern):
    """A pattern with its canonical net."""

    spec: Data


class PatternRun(Answer):
    """What a run of a pattern's net came to."""

    number: int
    name: str
    outcome: str
    trace: list[str]
    variables: Data


class Instance(Answer):
    """One of the instances that share the store, as it said of itself."""

    id: str
    address: str
    region: str
    state: str
    started: str
    until: str
    partitions: int


class AuditEntry(Answer):
    """A call that was made."""

    writer: str
    sequence: int
    hash: str
    at: str
    subject: str
    operation: str
    resource: str
    outcome: int
    trace: str
    region: str


class AuditVerdict(Answer):
    """Whether the record is as it was written, as far as it was looked at: to the end where that is complete."""

    intact: bool
    complete: bool
    links: int
    problems: list[str]
    heads: dict[str, Data]


class Page(Answer):
    """Part of a list, and where the next part begins."""

    items: list[Any]
    next: str | None


class ProblemBody(Answer):
    """Why a call was not done (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = ""
    problems: list[Finding] = []
