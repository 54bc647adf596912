"""Specifications: what the modeller wrote, read strictly, checked for well-formedness and written back.

The map, from below:

* `model`, `resourcing`, `measuring`: frozen data; `places`, `durations`, `values`: findings, and strict readers of single values
* `document`: the tree format, read and written; `json_text`, `yaml_text`, `files`: texts to trees
* `wellformed`: every problem with its place; `content`: the hash that names a content
* `specification`: `Specification` with its class methods; `text`: reading by form alone; `builder`: written in Python
"""

from knhk.spec.builder import Element, NetBuilder, SpecificationBuilder, build
from knhk.spec.content import content_hash
from knhk.spec.document import to_document
from knhk.spec.durations import format_duration, parse_duration
from knhk.spec.measuring import Label, Metric, MetricKind
from knhk.spec.model import (
    ANY_ERROR,
    END,
    ROOT,
    START,
    CatchUp,
    Compensate,
    Condition,
    Creation,
    Deadline,
    DeadlineFrom,
    External,
    Flow,
    Http,
    Join,
    Moment,
    Multiple,
    Net,
    PartialJoin,
    Remaining,
    Retry,
    Schedule,
    SpecificationData,
    Split,
    Task,
    Termination,
    Trigger,
    TriggerMode,
    WorkletRule,
)
from knhk.spec.resourcing import (
    Allocation,
    Escalation,
    Initiator,
    Manual,
    Policy,
    Privilege,
    Recipients,
    Unless,
)
from knhk.spec.specification import Specification
from knhk.spec.text import dump_json, dump_yaml, from_document, load, parse_json, parse_yaml
from knhk.spec.wellformed import problems

__all__ = (
    "ANY_ERROR",
    "END",
    "ROOT",
    "START",
    "Allocation",
    "CatchUp",
    "Compensate",
    "Condition",
    "Creation",
    "Deadline",
    "DeadlineFrom",
    "Element",
    "Escalation",
    "External",
    "Flow",
    "Http",
    "Initiator",
    "Join",
    "Label",
    "Manual",
    "Metric",
    "MetricKind",
    "Moment",
    "Multiple",
    "Net",
    "NetBuilder",
    "PartialJoin",
    "Policy",
    "Privilege",
    "Recipients",
    "Remaining",
    "Retry",
    "Schedule",
    "Specification",
    "SpecificationBuilder",
    "SpecificationData",
    "Split",
    "Task",
    "Termination",
    "Trigger",
    "TriggerMode",
    "Unless",
    "WorkletRule",
    "build",
    "content_hash",
    "dump_json",
    "dump_yaml",
    "format_duration",
    "from_document",
    "load",
    "parse_duration",
    "parse_json",
    "parse_yaml",
    "problems",
    "to_document",
)
