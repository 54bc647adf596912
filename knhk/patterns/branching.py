"""Advanced branching and synchronization, the patterns without a count: 6 to 8, 33, 37, 38, 41 and 42."""

from __future__ import annotations

from typing import Final

from knhk.patterns._notation import chain, fan, gather, person
from knhk.patterns._pattern import Pattern
from knhk.patterns._scene import Scene
from knhk.patterns._variables import anything, arrangement, whole

CATEGORY: Final = "Advanced branching and synchronization"

MULTI_CHOICE = Pattern(
    number=6,
    name="Multi-Choice",
    category=CATEGORY,
    description="Every branch whose predicate holds gets a thread; a default is taken when none does.",
    story="an emergency call sends whatever help the caller needs",
    other_names=("OR-split",),
    listens={
        "injured": anything(True, "whether somebody is hurt: an ambulance is sent"),
        "fire": anything(True, "whether something burns: the fire brigade is sent"),
        "crime": anything(False, "whether there was a crime: the police are sent"),
    },
    net={
        "tasks": {
            "take_call": person("dispatcher", split="or"),
            "send_ambulance": person("dispatcher"),
            "send_fire_brigade": person("dispatcher"),
            "send_police": person("dispatcher"),
            "calm_caller": person("dispatcher"),
        },
        "flows": [
            *chain("start", "take_call"),
            {"from": "take_call", "to": "send_ambulance", "when": "data.injured"},
            {"from": "take_call", "to": "send_fire_brigade", "when": "data.fire"},
            {"from": "take_call", "to": "send_police", "when": "data.crime"},
            {"from": "take_call", "to": "calm_caller", "default": True},
            *gather("end", "send_ambulance", "send_fire_brigade", "send_police", "calm_caller"),
        ],
        "termination": "implicit",
    },
)

STRUCTURED_SYNCHRONIZING_MERGE = Pattern(
    number=7,
    name="Structured Synchronizing Merge",
    category=CATEGORY,
    description="The branches that one earlier multi-choice activated, and only those, are waited for and merged.",
    story="the travel plan is sent when everything that the trip needs is booked",
    other_names=("Synchronizing Merge", "OR-join"),
    listens={
        "flight": anything(True, "whether a flight is booked"),
        "hotel": anything(True, "whether a room is reserved, and then its deposit paid"),
        "car": anything(False, "whether a car is rented"),
    },
    net={
        "tasks": {
            "plan_trip": person("traveller", split="or"),
            "book_flight": person("agent"),
            "reserve_room": person("agent"),
            "pay_deposit": person("cashier"),
            "rent_car": person("agent"),
            "note_day_trip": person("agent"),
            "send_travel_plan": person("agent", join="or"),
        },
        "flows": [
            *chain("start", "plan_trip"),
            {"from": "plan_trip", "to": "book_flight", "when": "data.flight"},
            {"from": "plan_trip", "to": "reserve_room", "when": "data.hotel"},
            {"from": "plan_trip", "to": "rent_car", "when": "data.car"},
            {"from": "plan_trip", "to": "note_day_trip", "default": True},
            *chain("reserve_room", "pay_deposit"),
            *gather("send_travel_plan", "book_flight", "pay_deposit", "rent_car", "note_day_trip"),
            *chain("send_travel_plan", "end"),
        ],
    },
)

MULTI_MERGE = Pattern(
    number=8,
    name="Multi-Merge",
    category=CATEGORY,
    description="Every arrival on any branch runs what follows once more; nothing is synchronised.",
    story="each part of a brochure is proofread and printed as soon as it is there",
    listens={"parts": anything(["text", "pictures"], 'a list with one or more of "text", "pictures" and "prices"')},
    net={
        "tasks": {
            "plan_brochure": person("editor", split="or"),
            "write_text": person("author"),
            "draw_pictures": person("artist"),
            "list_prices": person("clerk"),
            "proofread_part": person("editor", join="xor"),
            "print_part": person("printer"),
        },
        "flows": [
            *chain("start", "plan_brochure"),
            {"from": "plan_brochure", "to": "write_text", "when": "'text' in data.parts"},
            {"from": "plan_brochure", "to": "draw_pictures", "when": "'pictures' in data.parts"},
            {"from": "plan_brochure", "to": "list_prices", "when": "'prices' in data.parts"},
            *gather("proofread_part", "write_text", "draw_pictures", "list_prices"),
            *chain("proofread_part", "print_part", "end"),
        ],
        "termination": "implicit",
    },
)

GENERALISED_AND_JOIN = Pattern(
    number=33,
    name="Generalised AND-Join",
    category=CATEGORY,
    description=(
        "A join that takes one thread from every branch each time it fires; branches may deliver several times, and "
        "what is left over waits for the next firing."
    ),
    story="two bicycles: each frame is put together with one pair of wheels, whichever is ready first",
    other_names=("Generalized AND-Join",),
    listens={
        "order": arrangement(
            "the order in which the parts get ready", "weld_frame", "weld_frame", "lace_wheels", "lace_wheels"
        )
    },
    net={
        "tasks": {
            "order_bicycles": person("clerk", split="and"),
            "weld_frame": person("welder"),
            "lace_wheels": person("mechanic"),
            "assemble_bicycle": person("mechanic", join="and"),
        },
        "conditions": ["frames_to_do", "wheels_to_do"],
        "flows": [
            *chain("start", "order_bicycles"),
            *fan("order_bicycles", "frames_to_do", "wheels_to_do", weight=2),
            *chain("frames_to_do", "weld_frame", "assemble_bicycle", "end"),
            *chain("wheels_to_do", "lace_wheels", "assemble_bicycle"),
        ],
        "termination": "implicit",
    },
    script=lambda scene: scene.in_order(scene.data["order"]),
)

LOCAL_SYNCHRONIZING_MERGE = Pattern(
    number=37,
    name="Local Synchronizing Merge",
    category=CATEGORY,
    description=(
        "A merge that waits for the branches that are still alive, which the part of the net in front of it tells; "
        "the net need not be structured, but has no loop through the merge."
    ),
    story="a loan is decided from the papers that this customer can have at all, over two merges that share a branch",
    other_names=("Acyclic Synchronizing Merge",),
    listens={
        "salary": anything(True, "whether the customer earns a salary or fees, so that there is an income to check"),
        "house": anything(False, "whether the customer has a house to be valued; house or salary is needed"),
        "employed": anything(True, "whether an employer can be asked; else the tax return is read"),
    },
    net={
        "tasks": {
            "take_application": person("clerk", split="or"),
            "check_income": person("clerk", split="xor"),
            "ask_employer": person("clerk"),
            "read_tax_return": person("clerk"),
            "value_house": person("expert"),
            "rate_security": person("analyst", join="or"),
            "decide_loan": person("manager", join="or"),
        },
        "flows": [
            *chain("start", "take_application"),
            {"from": "take_application", "to": "check_income", "when": "data.salary"},
            {"from": "take_application", "to": "value_house", "when": "data.house"},
            {"from": "check_income", "to": "ask_employer", "when": "data.employed"},
            {"from": "check_income", "to": "read_tax_return", "default": True},
            *gather("rate_security", "read_tax_return", "value_house"),
            *gather("decide_loan", "ask_employer", "rate_security"),
            *chain("decide_loan", "end"),
        ],
    },
)

GENERAL_SYNCHRONIZING_MERGE = Pattern(
    number=38,
    name="General Synchronizing Merge",
    category=CATEGORY,
    description=(
        "A merge that goes on when every branch has arrived or can no longer arrive, whatever the net in front of it "
        "looks like, loops included."
    ),
    story="a page is laid out when its text is there and its picture, which may have to be drawn again, has settled",
    listens={
        "text": anything(True, "whether the page has a text"),
        "picture": anything(True, "whether the page has a picture; picture or text is needed"),
        "redraws": whole(1, "how often the picture is sent back"),
    },
    counted={"drawn": 0},
    outputs={"draw_picture": lambda data: {"drawn": data["drawn"] + 1}},
    net={
        "tasks": {
            "plan_page": person("editor", split="or"),
            "write_text": person("author"),
            "draw_picture": person("artist", join="xor"),
            "judge_picture": person("editor", split="xor"),
            "lay_out_page": person("designer", join="or"),
        },
        "conditions": ["picture_ready"],
        "flows": [
            *chain("start", "plan_page"),
            {"from": "plan_page", "to": "write_text", "when": "data.text"},
            {"from": "plan_page", "to": "draw_picture", "when": "data.picture"},
            *chain("draw_picture", "judge_picture"),
            {"from": "judge_picture", "to": "draw_picture", "when": "data.drawn <= data.redraws"},
            {"from": "judge_picture", "to": "picture_ready", "default": True},
            *gather("lay_out_page", "write_text", "picture_ready"),
            *chain("lay_out_page", "end"),
        ],
    },
)


def _sign_copies(scene: Scene) -> None:
    scene.complete("print_contract")
    for _ in range(scene.data["signed"]):
        scene.complete("sign_copy")
    scene.finish(except_for=("sign_copy",))


THREAD_MERGE = Pattern(
    number=41,
    name="Thread Merge",
    category=CATEGORY,
    description="A number of threads in one branch, known when the net is designed, become one.",
    story="three copies of a contract are signed one by one and bound together",
    listens={"signed": whole(3, "how many copies get signed; with fewer than three the case goes on waiting", high=3)},
    net={
        "tasks": {
            "print_contract": person("clerk"),
            "sign_copy": person("manager"),
            "bind_copies": person("clerk"),
        },
        "conditions": ["copies_to_sign", "signed_copies"],
        "flows": [
            *chain("start", "print_contract"),
            {"from": "print_contract", "to": "copies_to_sign", "weight": 3},
            *chain("copies_to_sign", "sign_copy", "signed_copies"),
            {"from": "signed_copies", "to": "bind_copies", "weight": 3},
            *chain("bind_copies", "end"),
        ],
    },
    script=_sign_copies,
)

THREAD_SPLIT = Pattern(
    number=42,
    name="Thread Split",
    category=CATEGORY,
    description="One thread becomes a number of threads in the same branch, known when the net is designed.",
    story="three sets of the same minutes are stamped and posted, each on its own",
    net={
        "tasks": {
            "copy_minutes": person("clerk"),
            "stamp_set": person("secretary"),
            "post_set": person("messenger"),
        },
        "conditions": ["sets_to_stamp"],
        "flows": [
            *chain("start", "copy_minutes"),
            {"from": "copy_minutes", "to": "sets_to_stamp", "weight": 3},
            *chain("sets_to_stamp", "stamp_set", "post_set", "end"),
        ],
        "termination": "implicit",
    },
)

PATTERNS: Final = (
    MULTI_CHOICE,
    STRUCTURED_SYNCHRONIZING_MERGE,
    MULTI_MERGE,
    GENERALISED_AND_JOIN,
    LOCAL_SYNCHRONIZING_MERGE,
    GENERAL_SYNCHRONIZING_MERGE,
    THREAD_MERGE,
    THREAD_SPLIT,
)
