"""The course of a whole case: iteration (10, 21, 22), termination (11, 43) and trigger (23, 24)."""

from __future__ import annotations

from typing import Final

from knhk.patterns._notation import chain, fan, gather, person
from knhk.patterns._pattern import Pattern
from knhk.patterns._scene import Scene
from knhk.patterns._variables import arrangement, one_of, whole

ITERATION: Final = "Iteration"
TERMINATION: Final = "Termination"
TRIGGER: Final = "Trigger"

ARBITRARY_CYCLES = Pattern(
    number=10,
    name="Arbitrary Cycles",
    category=ITERATION,
    description="A part of the net is repeated that may be entered and left at more than one point.",
    story="a draft wanders between author and editor; either may get it first, and either may end the wandering",
    other_names=("Unstructured Loop",),
    listens={
        "desk": one_of("who gets the draft first", "author", "editor"),
        "turns": whole(3, "how many turns the two have in all", low=1),
    },
    outputs={
        "revise_draft": lambda data: {"turns": data["turns"] - 1},
        "edit_draft": lambda data: {"turns": data["turns"] - 1},
    },
    net={
        "tasks": {
            "receive_draft": person("secretary", split="xor"),
            "revise_draft": person("author", split="xor"),
            "edit_draft": person("editor", split="xor"),
            "withdraw_draft": person("author"),
            "publish_draft": person("editor"),
        },
        "conditions": ["on_desk_of_author", "on_desk_of_editor"],
        "flows": [
            *chain("start", "receive_draft"),
            {"from": "receive_draft", "to": "on_desk_of_author", "when": "data.desk == 'author'"},
            {"from": "receive_draft", "to": "on_desk_of_editor", "default": True},
            *chain("on_desk_of_author", "revise_draft"),
            {"from": "revise_draft", "to": "on_desk_of_editor", "when": "data.turns > 0"},
            {"from": "revise_draft", "to": "withdraw_draft", "default": True},
            *chain("on_desk_of_editor", "edit_draft"),
            {"from": "edit_draft", "to": "on_desk_of_author", "when": "data.turns > 0"},
            {"from": "edit_draft", "to": "publish_draft", "default": True},
            *gather("end", "withdraw_draft", "publish_draft"),
        ],
    },
)

STRUCTURED_LOOP = Pattern(
    number=21,
    name="Structured Loop",
    category=ITERATION,
    description="A part of the net with one entry and one exit is repeated; a test before or after it decides.",
    story="pages are read while any are left, which is looked at before each page",
    other_names=("While Loop",),
    listens={"pages": whole(2, "how many pages there are")},
    outputs={"read_page": lambda data: {"pages": data["pages"] - 1}},
    net={
        "tasks": {
            "look_for_pages": person("reader", join="xor", split="xor"),
            "read_page": person("reader"),
            "close_book": person("reader"),
        },
        "flows": [
            *chain("start", "look_for_pages"),
            {"from": "look_for_pages", "to": "read_page", "when": "data.pages > 0"},
            {"from": "look_for_pages", "to": "close_book", "default": True},
            *chain("read_page", "look_for_pages"),
            *chain("close_book", "end"),
        ],
    },
)

RECURSION = Pattern(
    number=22,
    name="Recursion",
    category=ITERATION,
    description="A task contains its own net, directly or not; the innermost call returns first.",
    story="an archive of boxes in boxes is listed: each box is opened, the box inside is listed, then it is closed",
    listens={"depth": whole(2, "how many boxes stand one inside the other below the first")},
    counted={"opened": 0},
    outputs={"open_box": lambda data: {"opened": data["opened"] + 1}},
    net={
        "tasks": {"list_archive": {"subnet": "box"}, "hand_in_list": person("archivist")},
        "flows": chain("start", "list_archive", "hand_in_list", "end"),
        "subnets": {
            "box": {
                "tasks": {
                    "open_box": person("archivist", split="xor"),
                    "inner_box": {"subnet": "box"},
                    "list_papers": person("archivist"),
                    "close_box": person("archivist", join="xor"),
                },
                "flows": [
                    *chain("start", "open_box"),
                    {"from": "open_box", "to": "inner_box", "when": "data.opened <= data.depth"},
                    {"from": "open_box", "to": "list_papers", "default": True},
                    *gather("close_box", "inner_box", "list_papers"),
                    *chain("close_box", "end"),
                ],
            }
        },
    },
)

IMPLICIT_TERMINATION = Pattern(
    number=11,
    name="Implicit Termination",
    category=TERMINATION,
    description="The case ends when no work is left and none can come, wherever its threads have ended.",
    story="a guest has left: the room is cleaned, the bill filed and the key put back, and the last of these is the end",
    listens={"order": arrangement("the order in which the work gets done", "file_bill", "clean_room", "put_key_back")},
    net={
        "tasks": {
            "say_goodbye": person("host", split="and"),
            "clean_room": person("cleaner"),
            "put_key_back": person("cleaner"),
            "file_bill": person("clerk"),
        },
        "conditions": ["key_in_place", "bill_on_file"],
        "flows": [
            *chain("start", "say_goodbye", "clean_room", "put_key_back", "key_in_place"),
            *chain("say_goodbye", "file_bill", "bill_on_file"),
        ],
        "termination": "implicit",
    },
    script=lambda scene: scene.in_order(scene.data["order"]),
)


def _sell_to_the_faster(scene: Scene) -> None:
    scene.complete("advertise_flat")
    if scene.data["buyer"] == "first":
        scene.start("second_buyer_visits")
        scene.complete("first_buyer_signs")
    else:
        scene.start("first_buyer_signs")
        scene.complete("second_buyer_visits")
        scene.complete("second_buyer_signs")


EXPLICIT_TERMINATION = Pattern(
    number=43,
    name="Explicit Termination",
    category=TERMINATION,
    description="The case ends, successfully, when a thread reaches its nominated end; what is left is discarded.",
    story="a flat has two interested buyers; the first signature ends the sale",
    listens={"buyer": one_of("who signs", "first", "second")},
    net={
        "tasks": {
            "advertise_flat": person("agent", split="and"),
            "first_buyer_signs": person("buyer"),
            "second_buyer_visits": person("buyer"),
            "second_buyer_signs": person("buyer"),
        },
        "flows": [
            *chain("start", "advertise_flat"),
            *fan("advertise_flat", "first_buyer_signs", "second_buyer_visits"),
            *chain("second_buyer_visits", "second_buyer_signs"),
            *gather("end", "first_buyer_signs", "second_buyer_signs"),
        ],
    },
    script=_sell_to_the_faster,
)


def _blow_whistle(scene: Scene) -> None:
    scene.event("whistle", scene.data["early"])
    scene.complete("close_doors")
    scene.event("whistle", scene.data["waiting"])
    scene.finish()


TRANSIENT_TRIGGER = Pattern(
    number=23,
    name="Transient Trigger",
    category=TRIGGER,
    description="A signal from outside lets a waiting task start; it is lost when nobody waits for it.",
    story="a train leaves when the guard whistles after its doors are closed; an earlier whistle is not heard",
    listens={
        "early": whole(1, "how often the guard whistles before the doors are closed"),
        "waiting": whole(1, "how often after; without any the case goes on waiting"),
    },
    net={
        "tasks": {
            "close_doors": person("conductor"),
            "drive_off": person("driver", trigger={"event": "whistle", "mode": "transient"}),
        },
        "flows": chain("start", "close_doors", "drive_off", "end"),
    },
    script=_blow_whistle,
)


def _receive_trucks(scene: Scene) -> None:
    scene.event("truck", scene.data["early"])
    scene.complete("free_docks")
    scene.event("truck", scene.data["waiting"])
    scene.finish()


PERSISTENT_TRIGGER = Pattern(
    number=24,
    name="Persistent Trigger",
    category=TRIGGER,
    description="A signal from outside is kept until the task that it is for can use it.",
    story="trucks may come before the two docks are free; each that came is unloaded, and none is forgotten",
    listens={
        "early": whole(1, "how many trucks come before the docks are free"),
        "waiting": whole(1, "how many come after; with fewer than two in all the case goes on waiting"),
    },
    net={
        "tasks": {
            "free_docks": person("foreman"),
            "unload_truck": person("docker", trigger={"event": "truck", "mode": "persistent"}),
        },
        "conditions": ["dock_free"],
        "flows": [
            *chain("start", "free_docks"),
            {"from": "free_docks", "to": "dock_free", "weight": 2},
            *chain("dock_free", "unload_truck", "end"),
        ],
        "termination": "implicit",
    },
    script=_receive_trucks,
)

PATTERNS: Final = (
    ARBITRARY_CYCLES,
    STRUCTURED_LOOP,
    RECURSION,
    IMPLICIT_TERMINATION,
    EXPLICIT_TERMINATION,
    TRANSIENT_TRIGGER,
    PERSISTENT_TRIGGER,
)
