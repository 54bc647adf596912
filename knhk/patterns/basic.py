"""Basic control flow: patterns 1 to 5."""

from __future__ import annotations

from typing import Final

from knhk.patterns._notation import chain, fan, gather, person
from knhk.patterns._pattern import Pattern
from knhk.patterns._variables import anything, arrangement

CATEGORY: Final = "Basic control flow"

SEQUENCE = Pattern(
    number=1,
    name="Sequence",
    category=CATEGORY,
    description="A task is enabled once the task before it in the same case has completed.",
    story="an expense claim is written, checked and paid, one after the other",
    other_names=("Sequential Routing",),
    net={
        "tasks": {
            "write_claim": person("employee"),
            "check_receipts": person("accountant"),
            "pay_claim": person("cashier"),
        },
        "flows": chain("start", "write_claim", "check_receipts", "pay_claim", "end"),
    },
)

PARALLEL_SPLIT = Pattern(
    number=2,
    name="Parallel Split",
    category=CATEGORY,
    description="One thread becomes several that go on side by side, one on each branch.",
    story="a reported accident sets three people to work at once, and nobody waits for the others",
    other_names=("AND-split", "Fork"),
    listens={"order": arrangement("the order in which the three finish", "inspect_car", "ask_witness", "check_policy")},
    net={
        "tasks": {
            "report_accident": person("agent", split="and"),
            "inspect_car": person("expert"),
            "ask_witness": person("agent"),
            "check_policy": person("clerk"),
        },
        "flows": [
            *chain("start", "report_accident"),
            *fan("report_accident", "inspect_car", "ask_witness", "check_policy"),
            *gather("end", "inspect_car", "ask_witness", "check_policy"),
        ],
        "termination": "implicit",
    },
    script=lambda scene: scene.in_order(scene.data["order"]),
)

SYNCHRONIZATION = Pattern(
    number=3,
    name="Synchronization",
    category=CATEGORY,
    description="Several branches become one thread, which goes on when every one of them has arrived.",
    story="a release is published when it is tested and its manual is written",
    other_names=("AND-join",),
    listens={"order": arrangement("the order in which the branches finish", "test_program", "write_manual")},
    net={
        "tasks": {
            "freeze_release": person("lead", split="and"),
            "test_program": person("tester"),
            "write_manual": person("writer"),
            "publish_release": person("lead", join="and"),
        },
        "flows": [
            *chain("start", "freeze_release", "test_program", "publish_release", "end"),
            *chain("freeze_release", "write_manual", "publish_release"),
        ],
    },
    script=lambda scene: scene.in_order(scene.data["order"]),
)

EXCLUSIVE_CHOICE = Pattern(
    number=4,
    name="Exclusive Choice",
    category=CATEGORY,
    description="Exactly one of several branches gets the thread, decided by data when the thread is there.",
    story="how an order is approved depends on its amount",
    other_names=("XOR-split",),
    listens={
        "amount": anything(
            120, "what the order costs: above 1000 a manager approves it, above 100 a clerk, else it is shipped at once"
        )
    },
    net={
        "tasks": {
            "receive_order": person("clerk", split="xor"),
            "approve_as_manager": person("manager"),
            "approve_as_clerk": person("clerk"),
            "ship_at_once": person("packer"),
        },
        "flows": [
            *chain("start", "receive_order"),
            {"from": "receive_order", "to": "approve_as_manager", "when": "data.amount > 1000"},
            {"from": "receive_order", "to": "approve_as_clerk", "when": "data.amount > 100"},
            {"from": "receive_order", "to": "ship_at_once", "default": True},
            *gather("end", "approve_as_manager", "approve_as_clerk", "ship_at_once"),
        ],
    },
)

SIMPLE_MERGE = Pattern(
    number=5,
    name="Simple Merge",
    category=CATEGORY,
    description="Branches of which only one is ever taken continue as one, without anything being waited for.",
    story="a complaint comes by letter or by web form and is answered in one way",
    other_names=("XOR-join",),
    listens={"channel": anything("letter", '"letter", or anything else for the web form')},
    net={
        "tasks": {
            "note_complaint": person("clerk", split="xor"),
            "scan_letter": person("clerk"),
            "import_form": person("clerk"),
            "answer_complaint": person("agent", join="xor"),
        },
        "flows": [
            *chain("start", "note_complaint"),
            {"from": "note_complaint", "to": "scan_letter", "when": "data.channel == 'letter'"},
            {"from": "note_complaint", "to": "import_form", "default": True},
            *gather("answer_complaint", "scan_letter", "import_form"),
            *chain("answer_complaint", "end"),
        ],
    },
)

PATTERNS: Final = (SEQUENCE, PARALLEL_SPLIT, SYNCHRONIZATION, EXCLUSIVE_CHOICE, SIMPLE_MERGE)
