from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RegisterWorkflowRequest(_message.Message):
    __slots__ = ("spec", "yaml")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    YAML_FIELD_NUMBER: _ClassVar[int]
    spec: str
    yaml: str
    def __init__(self, spec: _Optional[str] = ..., yaml: _Optional[str] = ...) -> None: ...

class RegisterWorkflowResponse(_message.Message):
    __slots__ = ("spec_id", "version", "soundness")
    SPEC_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SOUNDNESS_FIELD_NUMBER: _ClassVar[int]
    spec_id: str
    version: str
    soundness: Soundness
    def __init__(self, spec_id: _Optional[str] = ..., version: _Optional[str] = ..., soundness: _Optional[_Union[Soundness, _Mapping]] = ...) -> None: ...

class Soundness(_message.Message):
    __slots__ = ("verdict", "problems")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    verdict: str
    problems: _containers.RepeatedCompositeFieldContainer[SoundnessProblem]
    def __init__(self, verdict: _Optional[str] = ..., problems: _Optional[_Iterable[_Union[SoundnessProblem, _Mapping]]] = ...) -> None: ...

class SoundnessProblem(_message.Message):
    __slots__ = ("net", "kind", "message")
    NET_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    net: str
    kind: str
    message: str
    def __init__(self, net: _Optional[str] = ..., kind: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class VerifyWorkflowRequest(_message.Message):
    __slots__ = ("spec", "yaml")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    YAML_FIELD_NUMBER: _ClassVar[int]
    spec: str
    yaml: str
    def __init__(self, spec: _Optional[str] = ..., yaml: _Optional[str] = ...) -> None: ...

class RemoveWorkflowRequest(_message.Message):
    __slots__ = ("spec_id", "version")
    SPEC_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    spec_id: str
    version: str
    def __init__(self, spec_id: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class RemoveWorkflowResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetWorkflowRequest(_message.Message):
    __slots__ = ("spec_id", "version")
    SPEC_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    spec_id: str
    version: str
    def __init__(self, spec_id: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Workflow(_message.Message):
    __slots__ = ("spec_id", "version", "name", "content_hash")
    SPEC_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    spec_id: str
    version: str
    name: str
    content_hash: str
    def __init__(self, spec_id: _Optional[str] = ..., version: _Optional[str] = ..., name: _Optional[str] = ..., content_hash: _Optional[str] = ...) -> None: ...

class WholeWorkflow(_message.Message):
    __slots__ = ("spec_id", "version", "name", "content_hash", "spec", "soundness")
    SPEC_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SOUNDNESS_FIELD_NUMBER: _ClassVar[int]
    spec_id: str
    version: str
    name: str
    content_hash: str
    spec: str
    soundness: Soundness
    def __init__(self, spec_id: _Optional[str] = ..., version: _Optional[str] = ..., name: _Optional[str] = ..., content_hash: _Optional[str] = ..., spec: _Optional[str] = ..., soundness: _Optional[_Union[Soundness, _Mapping]] = ...) -> None: ...

class ListWorkflowsRequest(_message.Message):
    __slots__ = ("limit", "cursor")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    limit: int
    cursor: str
    def __init__(self, limit: _Optional[int] = ..., cursor: _Optional[str] = ...) -> None: ...

class ListWorkflowsResponse(_message.Message):
    __slots__ = ("items", "next")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Workflow]
    next: str
    def __init__(self, items: _Optional[_Iterable[_Union[Workflow, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class CreateCaseRequest(_message.Message):
    __slots__ = ("spec_id", "data", "version", "start")
    SPEC_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    spec_id: str
    data: str
    version: str
    start: bool
    def __init__(self, spec_id: _Optional[str] = ..., data: _Optional[str] = ..., version: _Optional[str] = ..., start: _Optional[bool] = ...) -> None: ...

class GetCaseRequest(_message.Message):
    __slots__ = ("case_id",)
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    def __init__(self, case_id: _Optional[str] = ...) -> None: ...

class CaseCommand(_message.Message):
    __slots__ = ("case_id", "if_version")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    if_version: int
    def __init__(self, case_id: _Optional[str] = ..., if_version: _Optional[int] = ...) -> None: ...

class CaseLine(_message.Message):
    __slots__ = ("case_id", "spec_id", "spec_version", "state", "version", "next_due", "runnable", "quarantined")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NEXT_DUE_FIELD_NUMBER: _ClassVar[int]
    RUNNABLE_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    spec_id: str
    spec_version: str
    state: str
    version: int
    next_due: str
    runnable: bool
    quarantined: str
    def __init__(self, case_id: _Optional[str] = ..., spec_id: _Optional[str] = ..., spec_version: _Optional[str] = ..., state: _Optional[str] = ..., version: _Optional[int] = ..., next_due: _Optional[str] = ..., runnable: _Optional[bool] = ..., quarantined: _Optional[str] = ...) -> None: ...

class Case(_message.Message):
    __slots__ = ("case_id", "spec_id", "spec_version", "state", "version", "next_due", "data", "marking", "enabled", "running", "problems", "runnable", "quarantined", "worklets", "stands_in_for")
    class MarkingEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Marking
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Marking, _Mapping]] = ...) -> None: ...
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NEXT_DUE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    MARKING_FIELD_NUMBER: _ClassVar[int]
    ENABLED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    RUNNABLE_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    WORKLETS_FIELD_NUMBER: _ClassVar[int]
    STANDS_IN_FOR_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    spec_id: str
    spec_version: str
    state: str
    version: int
    next_due: str
    data: str
    marking: _containers.MessageMap[str, Marking]
    enabled: _containers.RepeatedScalarFieldContainer[str]
    running: _containers.RepeatedScalarFieldContainer[str]
    problems: _containers.RepeatedScalarFieldContainer[str]
    runnable: bool
    quarantined: str
    worklets: _containers.RepeatedScalarFieldContainer[str]
    stands_in_for: str
    def __init__(self, case_id: _Optional[str] = ..., spec_id: _Optional[str] = ..., spec_version: _Optional[str] = ..., state: _Optional[str] = ..., version: _Optional[int] = ..., next_due: _Optional[str] = ..., data: _Optional[str] = ..., marking: _Optional[_Mapping[str, Marking]] = ..., enabled: _Optional[_Iterable[str]] = ..., running: _Optional[_Iterable[str]] = ..., problems: _Optional[_Iterable[str]] = ..., runnable: _Optional[bool] = ..., quarantined: _Optional[str] = ..., worklets: _Optional[_Iterable[str]] = ..., stands_in_for: _Optional[str] = ...) -> None: ...

class Marking(_message.Message):
    __slots__ = ("tokens",)
    class TokensEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.ScalarMap[str, int]
    def __init__(self, tokens: _Optional[_Mapping[str, int]] = ...) -> None: ...

class ListCasesRequest(_message.Message):
    __slots__ = ("spec_id", "state", "limit", "cursor")
    SPEC_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    spec_id: str
    state: str
    limit: int
    cursor: str
    def __init__(self, spec_id: _Optional[str] = ..., state: _Optional[str] = ..., limit: _Optional[int] = ..., cursor: _Optional[str] = ...) -> None: ...

class ListCasesResponse(_message.Message):
    __slots__ = ("items", "next")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[CaseLine]
    next: str
    def __init__(self, items: _Optional[_Iterable[_Union[CaseLine, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class GetCaseHistoryRequest(_message.Message):
    __slots__ = ("case_id", "limit", "cursor")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    limit: int
    cursor: str
    def __init__(self, case_id: _Optional[str] = ..., limit: _Optional[int] = ..., cursor: _Optional[str] = ...) -> None: ...

class GetCaseHistoryResponse(_message.Message):
    __slots__ = ("items", "next")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Event]
    next: str
    def __init__(self, items: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class WatchCaseRequest(_message.Message):
    __slots__ = ("case_id", "after")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    after: int
    def __init__(self, case_id: _Optional[str] = ..., after: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("sequence", "at", "kind", "path", "details")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    at: str
    kind: str
    path: str
    details: str
    def __init__(self, sequence: _Optional[int] = ..., at: _Optional[str] = ..., kind: _Optional[str] = ..., path: _Optional[str] = ..., details: _Optional[str] = ...) -> None: ...

class SendEventRequest(_message.Message):
    __slots__ = ("case_id", "name", "data", "if_version")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    name: str
    data: str
    if_version: int
    def __init__(self, case_id: _Optional[str] = ..., name: _Optional[str] = ..., data: _Optional[str] = ..., if_version: _Optional[int] = ...) -> None: ...

class SendEventResponse(_message.Message):
    __slots__ = ("kept", "case")
    KEPT_FIELD_NUMBER: _ClassVar[int]
    CASE_FIELD_NUMBER: _ClassVar[int]
    kept: int
    case: Case
    def __init__(self, kept: _Optional[int] = ..., case: _Optional[_Union[Case, _Mapping]] = ...) -> None: ...

class WorkItem(_message.Message):
    __slots__ = ("id", "case_id", "number", "path", "state", "by", "roles", "topic", "audience")
    ID_FIELD_NUMBER: _ClassVar[int]
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    case_id: str
    number: int
    path: str
    state: str
    by: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    topic: str
    audience: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., case_id: _Optional[str] = ..., number: _Optional[int] = ..., path: _Optional[str] = ..., state: _Optional[str] = ..., by: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., topic: _Optional[str] = ..., audience: _Optional[_Iterable[str]] = ...) -> None: ...

class WholeWorkItem(_message.Message):
    __slots__ = ("id", "case_id", "number", "path", "state", "by", "roles", "topic", "audience", "data")
    ID_FIELD_NUMBER: _ClassVar[int]
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    id: str
    case_id: str
    number: int
    path: str
    state: str
    by: str
    roles: _containers.RepeatedScalarFieldContainer[str]
    topic: str
    audience: _containers.RepeatedScalarFieldContainer[str]
    data: str
    def __init__(self, id: _Optional[str] = ..., case_id: _Optional[str] = ..., number: _Optional[int] = ..., path: _Optional[str] = ..., state: _Optional[str] = ..., by: _Optional[str] = ..., roles: _Optional[_Iterable[str]] = ..., topic: _Optional[str] = ..., audience: _Optional[_Iterable[str]] = ..., data: _Optional[str] = ...) -> None: ...

class ListWorkItemsRequest(_message.Message):
    __slots__ = ("case_id", "state", "participant", "role", "limit", "cursor")
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PARTICIPANT_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    case_id: str
    state: str
    participant: str
    role: str
    limit: int
    cursor: str
    def __init__(self, case_id: _Optional[str] = ..., state: _Optional[str] = ..., participant: _Optional[str] = ..., role: _Optional[str] = ..., limit: _Optional[int] = ..., cursor: _Optional[str] = ...) -> None: ...

class ListWorkItemsResponse(_message.Message):
    __slots__ = ("items", "next")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[WorkItem]
    next: str
    def __init__(self, items: _Optional[_Iterable[_Union[WorkItem, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class GetWorkItemRequest(_message.Message):
    __slots__ = ("item_id",)
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    def __init__(self, item_id: _Optional[str] = ...) -> None: ...

class AllocateWorkItemRequest(_message.Message):
    __slots__ = ("item_id", "to", "if_version")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    to: str
    if_version: int
    def __init__(self, item_id: _Optional[str] = ..., to: _Optional[str] = ..., if_version: _Optional[int] = ...) -> None: ...

class DelegateWorkItemRequest(_message.Message):
    __slots__ = ("item_id", "to", "if_version")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    to: str
    if_version: int
    def __init__(self, item_id: _Optional[str] = ..., to: _Optional[str] = ..., if_version: _Optional[int] = ...) -> None: ...

class FailWorkItemRequest(_message.Message):
    __slots__ = ("item_id", "reason", "if_version")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    reason: str
    if_version: int
    def __init__(self, item_id: _Optional[str] = ..., reason: _Optional[str] = ..., if_version: _Optional[int] = ...) -> None: ...

class WorkItemCommand(_message.Message):
    __slots__ = ("item_id", "if_version")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    if_version: int
    def __init__(self, item_id: _Optional[str] = ..., if_version: _Optional[int] = ...) -> None: ...

class CompleteWorkItemRequest(_message.Message):
    __slots__ = ("item_id", "data", "if_version")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    IF_VERSION_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    data: str
    if_version: int
    def __init__(self, item_id: _Optional[str] = ..., data: _Optional[str] = ..., if_version: _Optional[int] = ...) -> None: ...

class ClaimWorkRequest(_message.Message):
    __slots__ = ("topics", "worker", "max", "lease", "wait")
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedScalarFieldContainer[str]
    worker: str
    max: int
    lease: float
    wait: float
    def __init__(self, topics: _Optional[_Iterable[str]] = ..., worker: _Optional[str] = ..., max: _Optional[int] = ..., lease: _Optional[float] = ..., wait: _Optional[float] = ...) -> None: ...

class ClaimWorkResponse(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Claim]
    def __init__(self, items: _Optional[_Iterable[_Union[Claim, _Mapping]]] = ...) -> None: ...

class Claim(_message.Message):
    __slots__ = ("id", "token", "case_id", "number", "path", "topic", "worker", "attempt", "deadline", "data", "item", "index", "lease")
    ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    id: str
    token: str
    case_id: str
    number: int
    path: str
    topic: str
    worker: str
    attempt: int
    deadline: str
    data: str
    item: str
    index: int
    lease: float
    def __init__(self, id: _Optional[str] = ..., token: _Optional[str] = ..., case_id: _Optional[str] = ..., number: _Optional[int] = ..., path: _Optional[str] = ..., topic: _Optional[str] = ..., worker: _Optional[str] = ..., attempt: _Optional[int] = ..., deadline: _Optional[str] = ..., data: _Optional[str] = ..., item: _Optional[str] = ..., index: _Optional[int] = ..., lease: _Optional[float] = ...) -> None: ...

class CompleteWorkRequest(_message.Message):
    __slots__ = ("work_id", "token", "data")
    WORK_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    work_id: str
    token: str
    data: str
    def __init__(self, work_id: _Optional[str] = ..., token: _Optional[str] = ..., data: _Optional[str] = ...) -> None: ...

class CompleteWorkResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FailWorkRequest(_message.Message):
    __slots__ = ("work_id", "token", "reason", "error", "retryable", "retry_after")
    WORK_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    work_id: str
    token: str
    reason: str
    error: str
    retryable: bool
    retry_after: float
    def __init__(self, work_id: _Optional[str] = ..., token: _Optional[str] = ..., reason: _Optional[str] = ..., error: _Optional[str] = ..., retryable: _Optional[bool] = ..., retry_after: _Optional[float] = ...) -> None: ...

class FailWorkResponse(_message.Message):
    __slots__ = ("handled",)
    HANDLED_FIELD_NUMBER: _ClassVar[int]
    handled: bool
    def __init__(self, handled: _Optional[bool] = ...) -> None: ...

class ExtendWorkRequest(_message.Message):
    __slots__ = ("work_id", "token", "lease")
    WORK_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    work_id: str
    token: str
    lease: float
    def __init__(self, work_id: _Optional[str] = ..., token: _Optional[str] = ..., lease: _Optional[float] = ...) -> None: ...

class ExtendWorkResponse(_message.Message):
    __slots__ = ("deadline", "lease")
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    deadline: str
    lease: float
    def __init__(self, deadline: _Optional[str] = ..., lease: _Optional[float] = ...) -> None: ...

class ReleaseWorkRequest(_message.Message):
    __slots__ = ("work_id", "token")
    WORK_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    work_id: str
    token: str
    def __init__(self, work_id: _Optional[str] = ..., token: _Optional[str] = ...) -> None: ...

class ReleaseWorkResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("id", "kind", "webhook", "case_id", "number", "path", "spec_id", "spec_version", "handler", "topic", "reason", "error", "at", "attempts", "attempt", "digest", "where")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SPEC_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
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
    at: str
    attempts: int
    attempt: int
    digest: str
    where: str
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., webhook: _Optional[str] = ..., case_id: _Optional[str] = ..., number: _Optional[int] = ..., path: _Optional[str] = ..., spec_id: _Optional[str] = ..., spec_version: _Optional[str] = ..., handler: _Optional[str] = ..., topic: _Optional[str] = ..., reason: _Optional[str] = ..., error: _Optional[str] = ..., at: _Optional[str] = ..., attempts: _Optional[int] = ..., attempt: _Optional[int] = ..., digest: _Optional[str] = ..., where: _Optional[str] = ...) -> None: ...

class WholeDeadLetter(_message.Message):
    __slots__ = ("id", "kind", "webhook", "case_id", "number", "path", "spec_id", "spec_version", "handler", "topic", "reason", "error", "at", "attempts", "attempt", "digest", "where", "data", "item", "index")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    CASE_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SPEC_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_VERSION_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
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
    at: str
    attempts: int
    attempt: int
    digest: str
    where: str
    data: str
    item: str
    index: int
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[str] = ..., webhook: _Optional[str] = ..., case_id: _Optional[str] = ..., number: _Optional[int] = ..., path: _Optional[str] = ..., spec_id: _Optional[str] = ..., spec_version: _Optional[str] = ..., handler: _Optional[str] = ..., topic: _Optional[str] = ..., reason: _Optional[str] = ..., error: _Optional[str] = ..., at: _Optional[str] = ..., attempts: _Optional[int] = ..., attempt: _Optional[int] = ..., digest: _Optional[str] = ..., where: _Optional[str] = ..., data: _Optional[str] = ..., item: _Optional[str] = ..., index: _Optional[int] = ...) -> None: ...

class GetDeadLetterRequest(_message.Message):
    __slots__ = ("letter_id",)
    LETTER_ID_FIELD_NUMBER: _ClassVar[int]
    letter_id: str
    def __init__(self, letter_id: _Optional[str] = ...) -> None: ...

class ListDeadLettersRequest(_message.Message):
    __slots__ = ("spec_id", "handler", "topic", "error", "kind", "webhook", "limit", "cursor")
    SPEC_ID_FIELD_NUMBER: _ClassVar[int]
    HANDLER_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    spec_id: str
    handler: str
    topic: str
    error: str
    kind: str
    webhook: str
    limit: int
    cursor: str
    def __init__(self, spec_id: _Optional[str] = ..., handler: _Optional[str] = ..., topic: _Optional[str] = ..., error: _Optional[str] = ..., kind: _Optional[str] = ..., webhook: _Optional[str] = ..., limit: _Optional[int] = ..., cursor: _Optional[str] = ...) -> None: ...

class ListDeadLettersResponse(_message.Message):
    __slots__ = ("items", "next")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[DeadLetter]
    next: str
    def __init__(self, items: _Optional[_Iterable[_Union[DeadLetter, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class ReplayDeadLetterRequest(_message.Message):
    __slots__ = ("letter_id",)
    LETTER_ID_FIELD_NUMBER: _ClassVar[int]
    letter_id: str
    def __init__(self, letter_id: _Optional[str] = ...) -> None: ...

class ReplayDeadLetterResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DiscardDeadLetterRequest(_message.Message):
    __slots__ = ("letter_id", "reason")
    LETTER_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    letter_id: str
    reason: str
    def __init__(self, letter_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class DiscardDeadLetterResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExecutePatternRequest(_message.Message):
    __slots__ = ("number", "variables")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    number: int
    variables: str
    def __init__(self, number: _Optional[int] = ..., variables: _Optional[str] = ...) -> None: ...

class ExecutePatternResponse(_message.Message):
    __slots__ = ("number", "name", "outcome", "trace", "variables")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    VARIABLES_FIELD_NUMBER: _ClassVar[int]
    number: int
    name: str
    outcome: str
    trace: _containers.RepeatedScalarFieldContainer[str]
    variables: str
    def __init__(self, number: _Optional[int] = ..., name: _Optional[str] = ..., outcome: _Optional[str] = ..., trace: _Optional[_Iterable[str]] = ..., variables: _Optional[str] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("type", "title", "status", "detail", "problems", "more")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    type: str
    title: str
    status: int
    detail: str
    problems: _containers.RepeatedCompositeFieldContainer[Finding]
    more: str
    def __init__(self, type: _Optional[str] = ..., title: _Optional[str] = ..., status: _Optional[int] = ..., detail: _Optional[str] = ..., problems: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., more: _Optional[str] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("place", "message")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    place: str
    message: str
    def __init__(self, place: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
