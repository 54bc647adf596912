"""Multiple instances: patterns 12 to 15 and 34 to 36."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from knhk.patterns._notation import chain, person
from knhk.patterns._pattern import Pattern
from knhk.patterns._scene import Scene
from knhk.patterns._variables import anything, arrangement, whole

CATEGORY: Final = "Multiple instances"


def _instances(task: str, numbers: Iterable[int]) -> list[str]:
    return [f"{task}#{number}" for number in numbers]


def _in_number_order(task: str, variable: str) -> Callable[[Scene], None]:
    """Return a script that completes the instances by number, and what follows the task as soon as it may start."""

    def script(scene: Scene) -> None:
        count: Any = scene.data[variable]
        scene.in_order(_instances(task, range(1, count + 1)))

    return script


def _invite(scene: Scene) -> None:
    scene.complete("plan_party")
    scene.start("invite_guest")
    scene.complete("book_hall")
    scene.finish()


WITHOUT_SYNCHRONIZATION = Pattern(
    number=12,
    name="Multiple Instances without Synchronization",
    category=CATEGORY,
    description="Several instances of a task run side by side, each on its own, and nothing waits for them.",
    story="guests are invited one by one while the hall is being booked",
    listens={"guests": anything(3, "how many guests are invited; 0 to 100")},
    net={
        "tasks": {
            "plan_party": person("host"),
            "invite_guest": person("host", multiple={"count": "data.guests", "maximum": 100, "detached": True}),
            "book_hall": person("host"),
        },
        "flows": chain("start", "plan_party", "invite_guest", "book_hall", "end"),
        "termination": "implicit",
    },
    script=_invite,
)

DESIGN_TIME_KNOWLEDGE = Pattern(
    number=13,
    name="Multiple Instances with a priori Design-Time Knowledge",
    category=CATEGORY,
    description="A fixed number of instances run side by side, and all of them are waited for.",
    story="an annual report is signed by all three directors before it is filed",
    listens={"order": arrangement("the order in which the directors sign, by number", 1, 2, 3)},
    net={
        "tasks": {
            "write_report": person("accountant"),
            "sign_report": person("director", multiple={"count": 3}),
            "file_report": person("accountant"),
        },
        "flows": chain("start", "write_report", "sign_report", "file_report", "end"),
    },
    script=lambda scene: scene.in_order(_instances("sign_report", scene.data["order"])),
)

RUN_TIME_KNOWLEDGE = Pattern(
    number=14,
    name="Multiple Instances with a priori Run-Time Knowledge",
    category=CATEGORY,
    description="The number of instances is found in the case when the task starts; all of them are waited for.",
    story="every parcel of a delivery is inspected, as many as it has",
    listens={"parcels": anything(3, "how many parcels the delivery has; 0 to 100")},
    net={
        "tasks": {
            "count_parcels": person("clerk"),
            "inspect_parcel": person("inspector", multiple={"count": "data.parcels", "maximum": 100}),
            "store_delivery": person("clerk"),
        },
        "flows": chain("start", "count_parcels", "inspect_parcel", "store_delivery", "end"),
    },
)


def _hear_witnesses(scene: Scene) -> None:
    scene.complete("open_inquiry")
    scene.start("hear_witness")
    for heard in range(1, scene.data["named_later"] + 1):
        scene.add_instance("hear_witness")
        scene.complete(f"hear_witness#{heard}")
    scene.finish()


NO_A_PRIORI_KNOWLEDGE = Pattern(
    number=15,
    name="Multiple Instances without a priori Run-Time Knowledge",
    category=CATEGORY,
    description="Instances may be added while others run; control passes on when all that were created have completed.",
    story="witnesses are heard, and each of the first ones may name another",
    listens={
        "witnesses": whole(1, "how many witnesses are known at the beginning", low=1, high=50),
        "named_later": whole(2, "how many are named while others are heard", high=50),
    },
    net={
        "tasks": {
            "open_inquiry": person("judge"),
            "hear_witness": person(
                "judge",
                multiple={"count": "data.witnesses", "minimum": 1, "maximum": 100, "creation": "dynamic"},
            ),
            "write_finding": person("judge"),
        },
        "flows": chain("start", "open_inquiry", "hear_witness", "write_finding", "end"),
    },
    script=_hear_witnesses,
)

STATIC_PARTIAL_JOIN = Pattern(
    number=34,
    name="Static Partial Join for Multiple Instances",
    category=CATEGORY,
    description="Of a number of instances some pass control on; the others run on without effect.",
    story="two bids are enough to award a contract; later ones are still written, and filed",
    listens={"bidders": whole(4, "how many bidders there are")},
    net={
        "tasks": {
            "call_for_bids": person("buyer"),
            "write_bid": person("bidder", multiple={"count": "data.bidders", "threshold": 2, "remaining": "continue"}),
            "award_contract": person("buyer"),
        },
        "flows": chain("start", "call_for_bids", "write_bid", "award_contract", "end"),
        "termination": "implicit",
    },
    script=_in_number_order("write_bid", "bidders"),
)

CANCELLING_PARTIAL_JOIN = Pattern(
    number=35,
    name="Cancelling Partial Join for Multiple Instances",
    category=CATEGORY,
    description="Of a number of instances some pass control on; the others are cancelled.",
    story="a dish goes on the menu as soon as two cooks have tasted it, and nobody else needs to",
    other_names=("Static Cancelling Partial Join for Multiple Instances",),
    listens={"cooks": whole(4, "how many cooks are asked to taste")},
    net={
        "tasks": {
            "cook_dish": person("chef"),
            "taste_dish": person("cook", multiple={"count": "data.cooks", "threshold": 2, "remaining": "cancel"}),
            "write_menu": person("chef"),
        },
        "flows": chain("start", "cook_dish", "taste_dish", "write_menu", "end"),
    },
    script=_in_number_order("taste_dish", "cooks"),
)


def _collect(scene: Scene) -> None:
    scene.complete("make_appeal")
    scene.start("visit_donor")
    for _ in range(scene.data["found_later"]):
        scene.add_instance("visit_donor")
    scene.in_order(_instances("visit_donor", range(1, scene.data["donors"] + scene.data["found_later"] + 1)))


DYNAMIC_PARTIAL_JOIN = Pattern(
    number=36,
    name="Dynamic Partial Join for Multiple Instances",
    category=CATEGORY,
    description=(
        "Instances may be added; a condition, looked at whenever one completes, decides when control passes on, and "
        "the others run on without effect."
    ),
    story="donors are visited until the target is reached; visits under way then are still paid",
    listens={
        "target": whole(100, "how much is needed", high=1_000_000),
        "gift": whole(40, "how much each donor gives", high=1_000_000),
        "donors": whole(2, "how many donors are known at the beginning", low=1, high=50),
        "found_later": whole(2, "how many are found while others are visited", high=50),
    },
    counted={"raised": 0},
    outputs={"visit_donor": lambda data: {"raised": data["raised"] + data["gift"]}},
    net={
        "tasks": {
            "make_appeal": person("chair"),
            "visit_donor": person(
                "helper",
                multiple={
                    "count": "data.donors",
                    "maximum": 100,
                    "creation": "dynamic",
                    "until": "data.raised >= data.target",
                    "remaining": "continue",
                },
            ),
            "thank_helpers": person("chair"),
        },
        "flows": chain("start", "make_appeal", "visit_donor", "thank_helpers", "end"),
        "termination": "implicit",
    },
    script=_collect,
)

PATTERNS: Final = (
    WITHOUT_SYNCHRONIZATION,
    DESIGN_TIME_KNOWLEDGE,
    RUN_TIME_KNOWLEDGE,
    NO_A_PRIORI_KNOWLEDGE,
    STATIC_PARTIAL_JOIN,
    CANCELLING_PARTIAL_JOIN,
    DYNAMIC_PARTIAL_JOIN,
)
