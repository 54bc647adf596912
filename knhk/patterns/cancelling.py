"""Cancellation and force completion: patterns 19, 20 and 25 to 27."""

from __future__ import annotations

from typing import Final

from knhk.patterns._notation import chain, fan, gather, person
from knhk.patterns._pattern import Pattern
from knhk.patterns._scene import Scene
from knhk.patterns._variables import one_of, whole

CATEGORY: Final = "Cancellation and force completion"


def _wait_for_a_letter(scene: Scene) -> None:
    scene.complete("open_ticket")
    if scene.data["letter"] == "never":
        scene.complete("call_customer")
        scene.complete("note_call")
        return
    if scene.data["letter"] == "during the call":
        scene.start("call_customer")
    scene.complete("read_letter")
    scene.finish()


CANCEL_TASK = Pattern(
    number=19,
    name="Cancel Task",
    category=CATEGORY,
    description="A task that is offered is withdrawn, or one that runs is stopped; what would follow it does not start.",
    story="a customer is to be called; if her letter comes in the meantime, nobody calls her any more",
    other_names=("Cancel Activity",),
    listens={"letter": one_of("when the letter comes", "before the call", "during the call", "never")},
    net={
        "tasks": {
            "open_ticket": person("agent", split="and"),
            "call_customer": person("agent"),
            "note_call": person("agent"),
            "read_letter": person("clerk", cancels=["call_due", "call_customer"]),
            "answer_letter": person("clerk"),
        },
        "conditions": ["call_due"],
        "flows": [
            *chain("start", "open_ticket", "call_due", "call_customer", "note_call", "end"),
            *chain("open_ticket", "read_letter", "answer_letter", "end"),
        ],
    },
    script=_wait_for_a_letter,
)


def _call_off(scene: Scene) -> None:
    for _ in range(scene.data["after"]):
        scene.step()
    scene.cancel_case()


CANCEL_CASE = Pattern(
    number=20,
    name="Cancel Case",
    category=CATEGORY,
    description="The whole case with everything in it is removed, and recorded as not having succeeded.",
    story="an order is called off while it is packed and its delivery under way",
    other_names=("Cancel Process Instance",),
    listens={"after": whole(2, "how many tasks are done before the order is called off; all five: too late", high=5)},
    net={
        "tasks": {
            "take_order": person("clerk", split="and"),
            "write_invoice": person("clerk"),
            "deliver_goods": {"subnet": "delivery"},
            "close_order": person("clerk", join="and"),
        },
        "flows": [
            *chain("start", "take_order", "write_invoice", "close_order", "end"),
            *chain("take_order", "deliver_goods", "close_order"),
        ],
        "subnets": {
            "delivery": {
                "tasks": {"load_van": person("packer"), "drive_van": person("driver")},
                "flows": chain("start", "load_van", "drive_van", "end"),
            }
        },
    },
    script=_call_off,
)


def _withdraw_claim(scene: Scene) -> None:
    scene.complete("lodge_claim")
    for path in ("inspect_damage", "check_policy", "estimate_cost")[: scene.data["done"]]:
        scene.complete(path)
    scene.complete("withdraw_claim")
    scene.finish()


CANCEL_REGION = Pattern(
    number=25,
    name="Cancel Region",
    category=CATEGORY,
    description="A set of tasks is disabled together, whether they are offered or run; all others go on.",
    story="a claim is withdrawn: all its investigation stops, wherever it is, but the receipt is still sent",
    listens={"done": whole(1, "how many of the three pieces of investigation are done before", high=3)},
    net={
        "tasks": {
            "lodge_claim": person("customer", split="and"),
            "send_receipt": person("clerk"),
            "inspect_damage": person("expert"),
            "estimate_cost": person("expert"),
            "check_policy": person("clerk"),
            "settle_claim": person("manager", join="and"),
            "withdraw_claim": person(
                "customer",
                cancels=[
                    "damage_reported",
                    "inspect_damage",
                    "inspect_damage>estimate_cost",
                    "estimate_cost",
                    "estimate_cost>settle_claim",
                    "policy_named",
                    "check_policy",
                    "check_policy>settle_claim",
                    "settle_claim",
                ],
            ),
            "close_file": person("clerk", join="xor"),
        },
        "conditions": ["damage_reported", "policy_named"],
        "flows": [
            *chain("start", "lodge_claim"),
            *fan("lodge_claim", "send_receipt", "withdraw_claim"),
            *chain("send_receipt", "end"),
            *chain("lodge_claim", "damage_reported", "inspect_damage", "estimate_cost", "settle_claim"),
            *chain("lodge_claim", "policy_named", "check_policy", "settle_claim"),
            *gather("close_file", "settle_claim", "withdraw_claim"),
            *chain("close_file", "end"),
        ],
        "termination": "implicit",
    },
    script=_withdraw_claim,
)


def _some_instances(scene: Scene, task: str, count: int, done: int) -> None:
    """Start a task with several instances and complete the first of them."""
    scene.start(task)
    for number in range(1, min(count, done) + 1):
        scene.complete(f"{task}#{number}")


def _call_vote_off(scene: Scene) -> None:
    scene.complete("call_vote")
    _some_instances(scene, "cast_vote", scene.data["voters"], scene.data["voted"])
    scene.complete("find_flaw")
    scene.finish()


CANCEL_MULTIPLE_INSTANCE_TASK = Pattern(
    number=26,
    name="Cancel Multiple Instance Task",
    category=CATEGORY,
    description="A task with several instances is cancelled: open ones are withdrawn, and nothing follows the task.",
    story="a vote is stopped when its rules turn out to be flawed; votes already cast stay, but nothing is announced",
    other_names=("Cancel Multiple Instance Activity",),
    listens={
        "voters": whole(4, "how many voters there are", low=1),
        "voted": whole(2, "how many vote before the flaw is found; all of them: too late"),
    },
    net={
        "tasks": {
            "call_vote": person("chair", split="and"),
            "cast_vote": person("voter", multiple={"count": "data.voters"}),
            "announce_result": person("chair"),
            "find_flaw": person("lawyer", cancels=["vote_due", "cast_vote"]),
            "apologise": person("chair"),
        },
        "conditions": ["vote_due"],
        "flows": [
            *chain("start", "call_vote", "vote_due", "cast_vote", "announce_result", "end"),
            *chain("call_vote", "find_flaw", "apologise", "end"),
        ],
        "termination": "implicit",
    },
    script=_call_vote_off,
)


def _end_collection(scene: Scene) -> None:
    scene.complete("send_questions")
    _some_instances(scene, "answer_questions", scene.data["asked"], scene.data["answered"])
    if scene.data["answered"] < scene.data["asked"]:
        scene.complete_instances("answer_questions")
    scene.finish()


COMPLETE_MULTIPLE_INSTANCE_TASK = Pattern(
    number=27,
    name="Complete Multiple Instance Task",
    category=CATEGORY,
    description="A task with several instances is declared done: open ones are withdrawn, and control passes on once.",
    story="a survey is closed with the answers that have come",
    other_names=("Complete Multiple Instance Activity",),
    listens={
        "asked": whole(4, "how many people are asked", low=1),
        "answered": whole(2, "how many answer before the survey is closed"),
    },
    net={
        "tasks": {
            "send_questions": person("researcher"),
            "answer_questions": person("citizen", multiple={"count": "data.asked"}),
            "count_answers": person("researcher"),
        },
        "flows": chain("start", "send_questions", "answer_questions", "count_answers", "end"),
    },
    script=_end_collection,
)

PATTERNS: Final = (
    CANCEL_TASK,
    CANCEL_CASE,
    CANCEL_REGION,
    CANCEL_MULTIPLE_INSTANCE_TASK,
    COMPLETE_MULTIPLE_INSTANCE_TASK,
)
