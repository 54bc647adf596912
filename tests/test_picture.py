"""Pictures: what is in them, that nothing of a specification gets out of its place, and that nothing lies on anything else."""

from __future__ import annotations

import asyncio
import importlib.util
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import knhk
from knhk.errors import MissingExtra, SpecificationError
from knhk.formats import Tokens, draw, frequencies
from knhk.formats._drawing import layout, svg
from knhk.formats._drawing.layout import Box, Link, place
from knhk.formats._drawing.overlays import span
from knhk.formats._drawing.shapes import number
from knhk.formats._drawing.words import fitted, harmless, shortened, width, wrapped
from knhk.formats.picture import STYLE
from knhk.spec import Condition, Flow, Net, Specification, Task
from knhk.testing.clock import ManualClock

ROOT = Path(__file__).parent.parent
ORDER = Specification.load(ROOT / "examples" / "order_to_cash" / "order.json")
SVG = "{http://www.w3.org/2000/svg}"

HOSTILE = [
    "<script>alert(1)</script>",
    "]]><!-- &amp; \" ' -->",
    "\x00\x08\x1b[31m\x7f\u0085",
    "\u202eevil\u202c \u2066a\u2069 \u200f",
    "\ud800 \ufffe \U000e0001",
    'a"]; b [shape=x]; \\" \\',
    "`x` %%{init: {}}%% #quot; end\nsubgraph",
    "x" * 10_000,
    "\u5de5\u4f5c\u6d41\u7a0b " * 200,
    "",
]


def small(**members: Any) -> Specification:
    """A chain of one task, `a`, with these members."""
    net = knhk.build("small")
    net.sequence(net.start, net.task("a", **members), net.end)
    return net.specification()


def choice() -> Specification:
    """A choice of two ways after `check`, one of them back, and a condition in front of the other."""
    net = knhk.build("choice")
    check = net.task("check", join="xor", split="xor", handler="check", name="Check it")
    net.start.to(check)
    check.to(net.condition("open", name="Still open"), when="data.n > 1000")
    check.to(net.task("again", timer="3d"), when="data.n > 10").to(check)
    net.sequence("open", net.task("close", manual="clerk"), net.end)
    check.to(net.end, default=True)
    return net.specification()


def parse(text: str) -> ET.Element:
    """The root of an SVG text, which has to be well-formed."""
    return ET.fromstring(text.encode())


def groups(root: ET.Element, kind: str) -> dict[str, ET.Element]:
    """The groups with an attribute ``data-KIND``, by its value."""
    return {each.attrib[f"data-{kind}"]: each for each in root.iter(f"{SVG}g") if f"data-{kind}" in each.attrib}


def title(group: ET.Element) -> str:
    """What a pointer or a screen reader finds."""
    return group.findtext(f"{SVG}title") or ""


def words(group: ET.Element) -> list[str]:
    """The lines of text in a group."""
    return [each.text or "" for each in group.iter(f"{SVG}text")]


def boxes(net: ET.Element) -> list[tuple[str, float, float, float, float]]:
    """The tasks and conditions of a panel: name, left, top, right, bottom of all that is drawn of their borders."""
    found = []
    for kind in ("task", "condition"):
        for name, group in groups(net, kind).items():
            rects = [each for each in group.iter(f"{SVG}rect") if each.attrib["class"].startswith("box")]
            edges = [
                (float(r.attrib["x"]), float(r.attrib["y"]), float(r.attrib["width"]), float(r.attrib["height"]))
                for r in rects
            ]
            corners = [(x, y, x + w, y + h) for x, y, w, h in edges]
            for circle in group.iter(f"{SVG}circle"):
                if circle.attrib["class"].startswith("box"):
                    x, y, r = (float(circle.attrib[each]) for each in ("cx", "cy", "r"))
                    corners.append((x - r, y - r, x + r, y + r))
            left, top, right, bottom = zip(*corners, strict=True)
            found.append((f"{kind} {name}", min(left), min(top), max(right), max(bottom)))
    return found


def overlaps(text: str) -> list[tuple[str, str]]:
    """Pairs of figures of one panel that lie on each other."""
    pairs = []
    for net in (each for each in parse(text).iter(f"{SVG}g") if "data-net" in each.attrib):
        there = boxes(net)
        for position, (name, left, top, right, bottom) in enumerate(there):
            for other, *(left2, top2, right2, bottom2) in there[:position]:
                if left < right2 and left2 < right and top < bottom2 and top2 < bottom:
                    pairs.append((other, name))
    return pairs


def block(chance: random.Random, net: Any, count: int, at: Any) -> Any:
    """Add about `count` tasks behind an element, in sequence, in branches or in a loop; returns the last of them."""
    if count <= 2:
        task = net.task(
            f"{chance.choice(['book', 'check the invoice of', 'ship'])} {len(net.tree['tasks'])}".replace(" ", "_")
        )
        at.to(task)
        return task
    kind = chance.choice(["sequence", "sequence", "and", "xor", "loop"])
    serial = len(net.tree["tasks"])
    if kind == "sequence":
        return block(chance, net, count - count // 2, block(chance, net, count // 2, at))
    if kind == "loop":
        head = net.condition(f"again_{serial}")
        at.to(net.task(f"enter_{serial}")).to(head)
        last = block(chance, net, count - 1, head)
        out = net.task(f"enough_{serial}", split="xor")
        last.to(out)
        out.to(head, when="data.n > 1")
        behind = net.task(f"after_{serial}")
        out.to(behind, default=True)
        return behind
    split = net.task(f"part_{serial}", split=kind)
    at.to(split)
    join = net.task(f"meet_{serial}", join=kind)
    ways = chance.randint(2, 4)
    for way in range(ways):
        begin = net.condition(f"way_{serial}_{way}")
        condition = {"default": True} if way == ways - 1 else {"when": f"data.n > {way}"}
        split.to(begin, **(condition if kind == "xor" else {}))
        block(chance, net, (count - 2) // ways, begin).to(join)
    return join


def large(tasks: int, seed: int) -> Specification:
    """A structured net of about so many tasks."""
    net = knhk.build("large")
    block(random.Random(seed), net, tasks, net.start).to(net.end)
    return net.specification()


# --- structure --------------------------------------------------------------------------------------------------------


def test_every_element_is_found_by_its_name() -> None:
    """Tasks, conditions and flows have data attributes with their ids, and a title with what they are."""
    root = parse(choice().draw())

    assert {"check", "again", "close"} == groups(root, "task").keys()
    assert {"start", "open", "end"} == groups(root, "condition").keys()
    assert {
        "start>check",
        "check>open",
        "check>again",
        "again>check",
        "open>close",
        "close>end",
        "check>end",
    } == groups(root, "flow").keys()
    assert title(groups(root, "task")["check"]).split("\n") == [
        "task check: Check it",
        "XOR-join",
        "XOR-split",
        "handler check",
    ]
    assert "flow check -> open\nwhen data.n > 1000" == title(groups(root, "flow")["check>open"])
    assert ["data.n > 1000"] == words(groups(root, "flow")["check>open"])
    assert "default" in title(groups(root, "flow")["check>end"])


def test_a_strict_policy_shows_it() -> None:
    """There is no script, no address, no id, no handler and no inline style; the one style sheet is always the same."""
    root = parse(ORDER.draw())

    attributes = {name for each in root.iter() for name in each.attrib}
    assert set() == {
        each for each in attributes if each in ("style", "id", "href") or each.startswith("on") or "}" in each
    }
    assert {"svg", "title", "desc", "style", "g", "rect", "circle", "path", "text"} == {
        each.tag.removeprefix(SVG) for each in root.iter()
    }
    assert [STYLE] == [each.text for each in root.iter(f"{SVG}style")]
    assert "url(" not in ORDER.draw()
    assert ORDER.draw().count("http") == 1


def test_it_can_be_read_aloud() -> None:
    """The picture has a role, a title and a description."""
    root = parse(ORDER.draw())

    assert ("img", "Order to cash") == (root.attrib["role"], root.attrib["aria-label"])
    assert "Order to cash" == root.findtext(f"{SVG}title")
    assert "Specification order-to-cash 1: 2 nets, 21 tasks." == root.findtext(f"{SVG}desc")


def test_every_colour_has_a_dark_one() -> None:
    """Whatever class is drawn stands in the style sheet of dark pages, under the class of the picture alone."""
    classes = {
        each.attrib["class"] for each in parse(ORDER.draw()).iter() if "class" in each.attrib and each.tag != f"{SVG}g"
    } - {"knhk-picture"}

    assert classes
    assert set() == {each for each in classes if f".knhk-picture .{each}{{" not in STYLE}
    assert STYLE.count(".knhk-picture ") == STYLE.count("{") - 1


def test_subnets_follow_the_root_net() -> None:
    """Each net is a panel; one alone can be drawn."""
    nets = [each.attrib["data-net"] for each in parse(ORDER.draw()).iter(f"{SVG}g") if "data-net" in each.attrib]

    assert ["", "goods"] == nets
    assert {"goods"} == groups(parse(ORDER.draw(net="goods")), "net").keys()
    assert {""} == groups(parse(ORDER.draw(net="")), "net").keys()


def test_what_is_cancelled_is_outlined_and_told() -> None:
    """A region has a letter, an outline around each of its elements, and a line that says who cancels it."""
    net = knhk.build("cancel")
    go = net.task("go", split="and")
    net.start.to(go)
    work, stop = net.task("work"), net.task("stop", cancels=["work", "go>work"])
    go.to(work)
    go.to(stop)
    work.to(net.end)
    stop.to(net.end)

    root = parse(net.specification().draw())

    outlined = [each for each in root.iter(f"{SVG}g") if each.attrib.get("class") == "cancelled"]
    assert ["A: cancelled when stop completes"] * 2 == [title(each) for each in outlined]
    assert "A: cancelled when stop completes" in words(root)
    assert "go>work" in groups(root, "condition")


def test_many_regions_have_many_letters() -> None:
    """What is cancelled at other moments or by sets that differ is another region; a partial join's is one too."""
    net = knhk.build("regions")
    fork = net.task("fork", split="and")
    net.start.to(fork)
    join = net.task("join", join={"partial": 1, "cancels": ["t0"]})
    for each in range(28):
        task = net.task(f"t{each}", cancels=[f"t{(each + 1) % 28}"])
        fork.to(task).to(join)
    join.to(net.end)

    text = net.specification().draw()

    assert "Z: cancelled when t24 completes" in text
    assert "A1: cancelled when t25 completes" in text
    assert "A: cancelled when join starts" in text


def test_the_notation_shows_joins_and_kinds() -> None:
    """A partial join shows its number, a composite task a second border, instances a second box, work a symbol each."""
    net = knhk.build("kinds")
    fork = net.task("fork", split="or")
    net.start.to(fork)
    kinds: dict[str, dict[str, Any]] = {
        "many": {"multiple": {"count": 3, "threshold": 2}, "handler": "h"},
        "until": {"multiple": {"for_each": "data.l", "until": "completed > 1"}},
        "apart": {"multiple": {"count": "data.n", "detached": True}},
        "part": {"subnet": "inner"},
        "late": {"timer": "2h", "external": {"topic": "parcels"}},
        "told": {"trigger": "paid", "manual": {"roles": ["clerk", "boss"]}},
    }
    join = net.task("join", join={"partial": 2})
    for name, members in kinds.items():
        fork.to(net.task(name, **members), when="data.x > 1").to(join)
    fork.to(join, default=True)
    join.to(net.end)
    net.subnet("inner")

    tasks = groups(parse(net.specification().draw()), "task")

    assert "2" in words(tasks["join"])
    assert 2 == len([r for r in tasks["many"].iter(f"{SVG}rect") if r.attrib["class"] == "box"])
    assert 1 == len([r for r in tasks["part"].iter(f"{SVG}rect") if r.attrib["class"] == "inner"])
    assert [1, 0, 0, 0, 2, 2] == [
        len([p for p in tasks[name].iter(f"{SVG}path") if p.attrib["class"] == "symbol"]) for name in kinds
    ]
    assert "multiple instances: 3, 2 are enough" in title(tasks["many"])
    assert "multiple instances: for each of data.l, enough when completed > 1" in title(tasks["until"])
    assert "detached" in title(tasks["apart"])
    assert "external work, topic parcels\ntimer 2h" in title(tasks["late"])
    assert "manual work of clerk, boss\npersistent trigger paid" in title(tasks["told"])


def test_what_follows_a_failure_is_marked() -> None:
    """An error flow has its colour, a bolt and its errors; worklets, exlets and compensations have signs and lines of text."""
    net = knhk.build("failing")
    charge = net.task(
        "charge", http={"url": "https://bank.example"}, compensate="refund", exlet="by_hand", retry={"max_attempts": 3}
    )
    tell = net.task("tell", worklet=["mail"], requires="data.a", ensures="data.b", deadline="2h")
    net.sequence(net.start, charge, tell, net.end)
    charge.to(net.task("sorry"), on_error=["Late", "Lost"]).to(net.end)
    tell.to("sorry", on_error="*")
    tree = net.to_dict()
    tree["tasks"][2]["join"] = "xor"
    specification = Specification.from_dict(tree)
    root = parse(specification.draw())
    tasks, flows = groups(root, "task"), groups(root, "flow")
    signs = {
        (name, path.attrib["class"])
        for name, group in tasks.items()
        for path in group.iter(f"{SVG}path")
        if path.attrib["class"].startswith("symbol")
    }

    assert {("charge", "symbol"), ("charge", "symbol-wrong"), ("tell", "symbol")} == signs
    assert {"charge>sorry", "tell>sorry"} == {
        name for name, flow in flows.items() if any(p.attrib["class"] == "line-wrong" for p in flow.iter(f"{SVG}path"))
    }
    assert ["on Late or Lost"] == words(flows["charge>sorry"])
    assert "taken on any error" in title(flows["tell>sorry"])
    assert (
        "task charge\nrequest GET https://bank.example\n3 attempts at most\n"
        "when it has failed, worklet by_hand\nundone by handler refund"
    ) == title(tasks["charge"])
    assert "worklet mail\ncomplete within 2h of its enablement\nrequires data.a\nensures data.b" in title(tasks["tell"])
    assert '-.->|"on any error"|' in specification.draw("mermaid")
    assert "charge<br/>exlet, compensated" in specification.draw("mermaid")
    assert 'label="on any error", color="#cf222e"' in specification.draw("dot")


def test_weights_and_read_arcs_are_drawn() -> None:
    """A flow of several tokens says how many; a read arc is no flow; a flow that is read is drawn as a condition."""
    net = knhk.build("weights")
    net.start.to(net.task("make", split="and")).to("stock", weight=3)
    net.condition("stock")
    net.flow("make", "look")
    net.task("look", reads=["stock", "make>look"])
    net.flow("stock", net.task("use", join="and"), weight=3)
    net.sequence("look", "use", net.end)

    text = net.specification().draw()
    root = parse(text)

    assert "3\u00d7" in words(groups(root, "flow")["make>stock"])
    assert {"stock>look", "make>look>look"} == groups(root, "read-arc").keys()
    assert "make>look" in groups(root, "condition")
    assert "-.-o" in net.specification().draw("mermaid")
    assert "arrowhead=odot" in net.specification().draw("dot")


# --- safety -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_stay_text(name: str) -> None:
    """A name is text wherever it stands, and leaves the structure of the picture as it is."""
    specification = Specification(
        id=name or "x",
        name=name,
        version=name,
        root=Net(
            tasks=(Task(id=name or "t", name=name, handler=name, subnet=name or "s"),),
            conditions=(Condition(id=f"c{name}", name=name),),
            flows=(
                Flow(source="start", target=name or "t", when=name),
                Flow(source=name or "t", target=f"c{name}"),
                Flow(source=f"c{name}", target="end"),
            ),
        ),
        subnets={name or "s": Net()},
    )

    text = draw(specification)
    root = parse(text)

    assert 1 == len(groups(root, "task"))
    assert {f"{SVG}svg", f"{SVG}g"} <= {each.tag for each in root.iter()}
    assert f"{SVG}script" not in {each.tag for each in root.iter()}
    assert max(len(each.text or "") for each in root.iter() if each.tag != f"{SVG}style") < 5_000
    assert not set("\x00\x1b\u202e\u2066\u200f") & set(text)
    for language in ("mermaid", "dot"):
        written = draw(specification, language)
        assert len(written) < 3_000
        assert "<script>" not in written.replace('"<script>', "") or language == "dot"
        assert not set("\x00\x1b\u202e\u2066\u200f") & set(written)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_dot_is_read_by_graphviz(name: str) -> None:
    """What is written as DOT is a graph of as many nodes and edges as there are elements and flows, whatever the names."""
    pygraphviz = pytest.importorskip("pygraphviz")
    specification = Specification(
        id="x",
        name=name,
        root=Net(
            tasks=(Task(id="t", name=name),),
            flows=(Flow(source="start", target="t"), Flow(source="t", target="end", when=name)),
        ),
    )

    graph = pygraphviz.AGraph(string=draw(specification, "dot"))

    assert (3, 2) == (graph.number_of_nodes(), graph.number_of_edges())


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_mermaid_has_a_name_in_its_quotes(name: str) -> None:
    """No name breaks out of the quotes, the line or the entities of Mermaid."""
    plain = Specification(id="x", root=Net(tasks=(Task(id="t", name="n"),), flows=(Flow(source="start", target="t"),)))
    named = Specification(id="x", root=Net(tasks=(Task(id="t", name=name),), flows=(Flow(source="start", target="t"),)))

    text = draw(named, "mermaid")

    assert draw(plain, "mermaid").count("\n") == text.count("\n")
    line = next(each for each in text.splitlines() if "n0_1[" in each)
    assert line.startswith('    n0_1["') and line.endswith('"]')
    assert not set('"<>`\\[]{}|') & set(line[len('    n0_1["') : -len('"]')])


def test_words_are_measured_broken_and_cut() -> None:
    """Lines fit their room; what is cut ends in an ellipsis; what has no width or is wide is measured so."""
    assert ("one two", "three") == wrapped("one two three", 60, 12, 3)
    assert ("check_", "credit_", "history") == wrapped("check_credit_history", 60, 12, 3)
    lines = wrapped("a" * 100, 60, 12, 2)
    assert 2 == len(lines) and lines[-1].endswith("\u2026")
    assert all(width(each, 12) <= 60 for each in lines)
    assert ("",) == wrapped("", 60, 12, 3)
    assert width("e\u0301", 10) == width("e", 10)
    assert width("\u5de5", 10) > width("e", 10)
    assert "ab" == fitted("ab", 60, 12)
    assert fitted("abcdefghijkl", 30, 12).endswith("\u2026")
    assert "a\u200db\ufffd c" == harmless("a\u200db\u202e\tc")
    assert "abc\u2026" == shortened("abcdefgh", 4)


def test_numbers_are_short() -> None:
    """Coordinates have a decimal where they need one, and no minus before a zero."""
    assert ["1", "1.5", "0", "-0.1", "10"] == [number(each) for each in (1.0, 1.5, -0.01, -0.1, 10.04)]


def test_spans_have_two_units() -> None:
    """A span is told in its two largest units."""
    assert ["0ms", "250ms", "2s", "2s 5ms", "1m 1s", "3d 4h", "1h"] == [
        span(each) for each in (0, 250, 2_000, 2_005, 61_900, 273_700_000, 3_600_000)
    ]


# --- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", [knhk.patterns[each] for each in knhk.patterns], ids=lambda each: each.slug)
def test_no_pattern_has_figures_on_each_other(pattern: Any) -> None:
    """All 43 canonical nets are drawn in all three languages, and no box lies on another."""
    specification = pattern.specification

    assert [] == overlaps(specification.draw())
    assert specification.draw("mermaid").startswith("flowchart LR\n")
    assert specification.draw("dot").startswith("digraph ")


@pytest.mark.parametrize("seed", range(3))
def test_a_large_net_has_no_figures_on_each_other(seed: int) -> None:
    """In a random net of about a hundred tasks no box lies on another."""
    specification = large(100, seed)

    assert len(specification.root.tasks) > 60
    assert [] == overlaps(specification.draw())


def test_the_example_has_no_figures_on_each_other() -> None:
    """Nor in the example, with a history on top, which makes figures larger."""
    assert [] == overlaps(ORDER.draw())
    assert [] == overlaps(draw(ORDER, history=()))


def test_flows_end_at_their_figures() -> None:
    """A flow begins at the right border of its source and ends at the left border of its target."""
    net = parse(choice().draw())
    there = {name.split(" ")[1]: box for name, *box in boxes(net)}
    for name, flow in groups(net, "flow").items():
        source, target = name.split(">")
        path = next(each for each in flow.iter(f"{SVG}path") if each.attrib["class"].startswith("line"))
        begin = path.attrib["d"][1:].split("C")[0].split(" ")
        arrow = next(each for each in flow.iter(f"{SVG}path") if each.attrib["class"].startswith("tip"))
        tip = arrow.attrib["d"][1:].split("L")[0].split(" ")
        assert float(begin[0]) == pytest.approx(there[source][2], abs=0.2)
        assert float(tip[0]) == pytest.approx(there[target][0], abs=0.2)
        assert there[source][1] <= float(begin[1]) <= there[source][3]
        assert there[target][1] <= float(tip[1]) <= there[target][3]


def test_a_flow_to_its_own_task_is_a_loop() -> None:
    """It leaves at the right and comes back at the left, around the task."""
    ends = (("start", "a"), ("a", "a"), ("a", "end"))
    flows = tuple(Flow(source=source, target=target) for source, target in ends)
    specification = Specification(id="x", root=Net(tasks=(Task(id="a"),), flows=flows))

    root = parse(specification.draw())

    flow, (_, left, top, right, bottom) = (
        groups(root, "flow")["a>a"],
        next(each for each in boxes(root) if each[0] == "task a"),
    )
    assert not (left < float(flow.attrib["data-x"]) < right and top < float(flow.attrib["data-y"]) < bottom)


def test_a_line_without_a_way_is_straight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the layout gives no curve, the line runs straight from border to border."""
    monkeypatch.setattr(layout, "_curve", lambda _text, _height: ())

    placed = place([Box(width=20, height=20), Box(width=20, height=20)], [Link(source=0, target=1)])

    (a, b, c, d) = placed.curves[0]
    assert (placed.centres[0][0] + 10, placed.centres[1][0] - 10) == (a[0], d[0])
    assert b == c


def test_a_net_too_large_is_refused() -> None:
    """What would take long to lay out is refused with what to do instead, and is still text."""
    tasks = tuple(Task(id=f"t{each}") for each in range(svg.MOST))
    specification = Specification(id="x", root=Net(), subnets={"s": Net(tasks=tasks)})

    with pytest.raises(
        ValueError, match="the subnet 's' has 1,002 tasks and conditions, and at most 1,000 can be laid out"
    ):
        specification.draw()
    assert specification._repr_svg_() is None
    assert specification.draw("dot").count("shape=box") == svg.MOST


def test_a_tangle_is_refused() -> None:
    """A chain of 140 tasks, each of which may end the case, has flows that are too long together."""
    names = [f"t{each}" for each in range(140)]
    chain = [Flow(source=a, target=b) for a, b in pairwise(["start", *names, "end"])]
    early = [Flow(source=each, target="end") for each in names[:-1]]
    net = Net(tasks=tuple(Task(id=each) for each in names), flows=(*chain, *early))

    with pytest.raises(ValueError, match="the root net is too much of a tangle to be laid out in time: draw it as"):
        Specification(id="x", root=net).draw()


def test_reach_counts_ranks() -> None:
    """Flows forward and back count by the ranks in between, whatever the order in which they stand."""
    chain = [Link(source=1, target=2), Link(source=0, target=1), Link(source=2, target=3)]

    assert 3 == layout.reach(4, chain)
    assert 3 + 3 + 2 == layout.reach(4, [*chain, Link(source=0, target=3), Link(source=3, target=1)])
    assert 0 == layout.reach(2, [Link(source=1, target=1)])
    assert 0 == layout.reach(0, [])


# --- determinism, extras ----------------------------------------------------------------------------------------------


def test_the_same_is_drawn_the_same() -> None:
    """The bytes depend on nothing but the arguments, not on the process's hash seed either."""
    code = (
        "import hashlib, sys; from tests.test_picture import ORDER; "
        "print([hashlib.sha256(ORDER.draw(each).encode()).hexdigest() for each in ('svg', 'mermaid', 'dot')])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert 1 == len(said)
    assert ORDER.draw() == ORDER.draw()


def test_without_the_extra_svg_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pygraphviz there is no SVG, a notebook shows text, and Mermaid and DOT are as before."""
    before = [ORDER.draw("mermaid"), ORDER.draw("dot")]
    monkeypatch.setitem(sys.modules, "pygraphviz", None)

    with pytest.raises(MissingExtra, match=r"pip install 'knhk\[draw\]'"):
        ORDER.draw()
    assert ORDER._repr_svg_() is None
    assert before == [ORDER.draw("mermaid"), ORDER.draw("dot")]


def test_a_notebook_shows_a_picture() -> None:
    """A specification and a case show themselves."""
    case = run(choice(), n=5000)

    assert choice().draw() == choice()._repr_svg_()
    assert case.draw() == case._repr_svg_()


# --- Mermaid, DOT -----------------------------------------------------------------------------------------------------


def test_mermaid_of_a_small_net() -> None:
    """The text, to the letter."""
    expected = """\
flowchart LR
  subgraph n0["choice"]
    n0_0(("#9654;"))
    n0_1["Check it<br/>XOR join, XOR split"]
    n0_2["again"]
    n0_3["close"]
    n0_4(("Still open"))
    n0_5((("#9632;")))
    n0_0 --> n0_1
    n0_1 -->|"data.n #62; 1000"| n0_4
    n0_1 -->|"data.n #62; 10"| n0_2
    n0_2 --> n0_1
    n0_4 --> n0_3
    n0_3 --> n0_5
    n0_1 -->|"default"| n0_5
  end
"""

    assert expected == choice().draw("mermaid")


def test_dot_of_a_small_net() -> None:
    """The text, to the letter."""
    expected = """\
digraph "small" {
  rankdir=LR;
  node [fontname="Helvetica", fontsize=11, style=filled, fillcolor=white];
  edge [fontname="Helvetica", fontsize=9];
  subgraph cluster_0 {
    label="small";
    n0_0 [label="\u25b6", tooltip="input condition", shape=circle];
    n0_1 [label="a", tooltip="task a", shape=box, style="filled,rounded"];
    n0_2 [label="\u25a0", tooltip="output condition", shape=doublecircle];
    n0_0 -> n0_1;
    n0_1 -> n0_2;
  }
}
"""

    assert expected == small().draw("dot")


def test_text_formats_have_the_overlays_too() -> None:
    """Tokens, states, cancellation and figures are in Mermaid and DOT."""
    tokens = Tokens(
        marking={"": {"awaiting_payment": 2}, "fulfil": {"check_credit>approve": 1}}, failed=("fulfil/reserve",)
    )
    mermaid, dot = (draw(ORDER, each, tokens=tokens) for each in ("mermaid", "dot"))
    counted = [draw(ORDER, each, frequencies={"ship": 7}) for each in ("mermaid", "dot")]

    assert 'awaiting_payment 2"' in mermaid
    assert '"default, tokens: 1"' in mermaid
    assert "class n1_5 failed" in mermaid and "classDef failed" in mermaid and "classDef visited" not in mermaid
    assert "%% A: cancelled when withdraw or expire completes" in mermaid
    assert "tokens: 2\\ncancelled: B" in dot
    assert 'fillcolor="#ffebe9"' in dot
    assert ["ship<br/>7 times" in counted[0], "ship\\n7 times" in counted[1], "penwidth=5.5" in counted[1]] == [
        True
    ] * 3


# --- tokens -----------------------------------------------------------------------------------------------------------


def run(specification: Specification, **data: Any) -> Any:
    """A case that has done its automatic work; a handler returns the data that are its name's."""
    engine = knhk.Engine("memory:", clock=ManualClock(1_000))
    engine.handler("check")(lambda work: {})
    engine.register(specification)
    return engine.create_case(specification.id, data).run()


def test_a_case_shows_its_tokens() -> None:
    """Conditions hold their tokens, tasks their state, and the layout is that of the bare net."""
    case = run(choice(), n=5000)
    bare, root = parse(case.draw(overlay="none")), parse(case.draw())

    assert "1" == groups(root, "condition")["open"].attrib["data-tokens"]
    assert "task enabled" == groups(root, "task")["close"].attrib["class"]
    assert "enabled" in title(groups(root, "task")["close"])
    assert "offered" in words(root) and "running" not in words(root)
    assert {name: each.attrib["data-x"] for name, each in groups(bare, "task").items()} == {
        name: each.attrib["data-x"] for name, each in groups(root, "task").items()
    }
    assert case.draw(overlay="none") == choice().draw()
    case.work_items()[0].start(by="ann")
    assert "task running" == groups(parse(case.draw()), "task")["close"].attrib["class"]


def test_an_implicit_condition_is_drawn_with_its_tokens() -> None:
    """A token between two tasks lies on their flow."""
    case = run(small(manual=True))
    tokens = Tokens(marking={"": {"start": 3}})
    between = Tokens(marking={"": {"check>again": 1, "open": 1200}})

    assert "start" in case.marking[""]
    assert "3" in words(groups(parse(draw(small(), tokens=tokens)), "condition")["start"])
    root = parse(draw(choice(), tokens=between))
    assert "1" == groups(root, "flow")["check>again"].attrib["data-tokens"]
    assert 2 == len(list(groups(root, "flow")["check>again"].iter(f"{SVG}circle")))
    assert "999+" in words(groups(root, "condition")["open"])


def nested() -> Specification:
    """A composite task with instances, inside which another subnet runs."""
    net = knhk.build("nested")
    net.sequence(net.start, net.task("each", subnet="inner", multiple={"for_each": "data.list"}), net.end)
    inner = net.subnet("inner")
    inner.sequence(inner.start, inner.task("deep", subnet="deepest"), inner.end)
    deepest = net.subnet("deepest")
    deepest.sequence(deepest.start, deepest.task("work", manual=True), deepest.end)
    net.subnet("never")
    return net.specification()


def test_each_running_subnet_has_its_panel() -> None:
    """Instances are drawn one by one with their path, the first of many; what does not run is pale."""
    case = run(nested(), list=list(range(10)))

    root = parse(case.draw())
    paths = [each.attrib.get("data-path") for each in root.iter(f"{SVG}g") if "data-net" in each.attrib]

    assert ["", *(f"each#{n}" for n in range(1, 9)), *(f"each#{n}/deep" for n in range(1, 9)), None] == paths
    assert "and 2 more of inner" in words(root) and "inner: each#1" in words(root)
    assert "never (does not run)" in words(root)
    assert "10\u00d7" in words(groups(root, "task")["each"])
    assert "running: 10" in title(groups(root, "task")["each"])


def test_panels_do_not_lie_on_each_other() -> None:
    """Small panels stand side by side, inside the picture; the root net's stands alone."""
    root = parse(run(nested(), list=list(range(10))).draw())
    placed = []
    for outer in root.findall(f"{SVG}g"):
        panel = outer.find(f"{SVG}g")
        if panel is not None and "data-net" in panel.attrib:
            x, y = (float(each) for each in re.findall(r"[\d.]+", outer.attrib["transform"]))
            border = next(each for each in panel.iter(f"{SVG}rect") if each.attrib["class"] == "panel")
            placed.append((x, y, x + float(border.attrib["width"]), y + float(border.attrib["height"])))

    assert 18 == len(placed)
    assert 1 == len([each for each in placed if each[1] == placed[0][1]])
    assert max(len([a for a in placed if a[1] == b[1]]) for b in placed) > 3
    assert all(each[2] <= float(root.attrib["width"]) and each[3] <= float(root.attrib["height"]) for each in placed)
    for number_, a in enumerate(placed):
        assert not [b for b in placed[:number_] if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]


def test_a_task_with_work_inside_runs() -> None:
    """Whatever is offered or runs inside a composite task, at whatever depth, makes it run."""
    tokens = Tokens(marking={"": {}}, enabled=("each#2/deep/work",))

    assert "task running" == groups(parse(draw(nested(), tokens=tokens)), "task")["each"].attrib["class"]


def test_tokens_that_fit_nowhere_are_refused() -> None:
    """A path or a condition that is not there is a ValueError that names it."""
    for tokens, message in (
        (Tokens(marking={"nowhere": {}}), "'nowhere' is no net"),
        (Tokens(marking={"close": {}}), "'close' is no net"),
        (Tokens(marking={"": {"x": 1}}), "the marking has tokens in 'x'"),
        (Tokens(running=("x",)), "'x' is no task"),
        (Tokens(enabled=("close/x",)), "'close' is no net"),
    ):
        with pytest.raises(ValueError, match=message):
            draw(choice(), tokens=tokens)


def test_failed_work_is_shown() -> None:
    """A handler that failed leaves its task red."""
    engine = knhk.Engine("memory:")
    engine.register(small(handler="broken"))

    @engine.handler("broken")
    def broken(_: Any) -> None:
        raise RuntimeError

    case = engine.create_case("small", {})
    with pytest.raises(knhk.HandlerError):
        case.run()

    assert "failed" in groups(parse(case.draw()), "task")["a"].attrib["class"]


def test_asyncio_draws_too() -> None:
    """`AsyncCase.draw` is the same."""

    async def main() -> tuple[str, str]:
        async with knhk.AsyncEngine("memory:") as engine:
            await engine.register(small(manual=True))
            case = await engine.create_case("small", {})
            await case.run()
            return await case.draw("mermaid"), await case.draw("mermaid", overlay="none")

    drawn, bare = asyncio.run(main())

    assert "class n0_1 enabled" in drawn
    assert small(manual=True).draw("mermaid") == bare


# --- history ----------------------------------------------------------------------------------------------------------


def test_a_history_shows_order_times_and_ways() -> None:
    """Tasks have their number and when they began; the flows that were taken are marked, the others are not."""
    engine = knhk.Engine("memory:", clock=(clock := ManualClock(1_000)))
    engine.handler("check")(lambda work: {"n": work.data["n"] - 500})
    engine.register(choice())
    case = engine.create_case("choice", {"n": 600}).run()
    clock.advance(3 * 86_400_000)
    engine.tick()
    case.run()
    assert "completed" == case.state

    root = parse(case.draw(overlay="history"))
    tasks, flows = groups(root, "task"), groups(root, "flow")

    assert ["1", "2\u00d7"] == [each for each in words(tasks["check"]) if each in ("1", "2\u00d7")]
    assert "+3d" in words(tasks["again"]) and "2" in words(tasks["again"])
    assert "from 1970-01-01T00:00:01.000Z to 1970-01-04T00:00:01.000Z" in title(tasks["check"])
    assert "started 2 times, completed 2 times" in title(tasks["check"])
    assert {"check>again", "again>check", "check>end"} == {
        name for name, each in flows.items() if each.attrib["class"] == "flow visited"
    } - {"start>check"}
    assert "task" == tasks["close"].attrib["class"]
    assert "condition" == groups(root, "condition")["open"].attrib["class"]


def test_a_way_that_is_not_told_is_perhaps() -> None:
    """Where a join took one of several tokens, its inputs from conditions are marked as perhaps, and said to be so."""
    net = knhk.build("perhaps")
    fork = net.task("fork", split="and")
    net.start.to(fork)
    for each in ("left", "right"):
        net.condition(each)
        fork.to(each)
    use = net.task("use", join="xor")
    net.flow("left", use)
    net.flow("right", use)
    use.to(net.end)
    case = run(net.specification())

    root = parse(case.draw(overlay="history"))

    assert ["flow perhaps", "flow perhaps"] == [
        groups(root, "flow")[f"{each}>use"].attrib["class"] for each in ("left", "right")
    ]
    assert "perhaps taken" in title(groups(root, "flow")["left>use"])
    assert "perhaps taken" in words(root)


def test_instances_and_subnets_are_counted_in_a_history() -> None:
    """A net that ran several times is one panel; its tasks count together, and its input condition received as many tokens."""
    case = run(nested(), list=[1, 2])
    for item in case.work_items():
        item.complete({}, by="ann")

    root = parse(case.draw(overlay="history"))

    assert "completed" == case.state
    assert "2\u00d7" in words(groups(root, "task")["work"])
    assert "started once, completed once" in title(groups(root, "task")["each"])
    inner = next(each for each in root.iter(f"{SVG}g") if each.attrib.get("data-net") == "inner")
    assert "2 tokens came here" in title(groups(inner, "condition")["start"])


def test_a_detached_task_passes_on_when_it_starts() -> None:
    """Its flows are taken at its start."""
    specification = small(multiple={"count": 2, "detached": True}, handler="check")
    case = run(specification)

    root = parse(case.draw(overlay="history"))

    assert "flow visited" == groups(root, "flow")["a>end"].attrib["class"]
    assert {"a": 1, "a>end": 1} == frequencies(specification, [case.history()])


def test_events_of_another_version_are_left_out_and_counted() -> None:
    """A history may tell of tasks that the specification does not have any more; the picture says how many events."""
    history = run(choice(), n=5).history()

    root = parse(draw(small(), history=history))

    assert any(each.startswith("left out: ") for each in words(root))
    assert "task" == groups(root, "task")["a"].attrib["class"]


# --- frequencies ------------------------------------------------------------------------------------------------------


def test_frequencies_are_counted_and_drawn() -> None:
    """Figures of many cases: on tasks, on flows, and as thickness."""
    histories = [run(choice(), n=each).history() for each in (5000, 5000, 5)]
    counts = frequencies(choice(), histories)

    root = parse(draw(choice(), frequencies=counts))
    flows = groups(root, "flow")

    assert {"check": 3, "check>open": 2, "check>end": 1} == counts
    assert "3" in words(groups(root, "task")["check"])
    assert ["data.n > 1000 \u00b7 2"] == words(flows["check>open"])
    widths = {
        name: float(next(p for p in each.iter(f"{SVG}path") if "stroke-width" in p.attrib).attrib["stroke-width"])
        for name, each in flows.items()
    }
    assert widths["check>open"] > widths["check>end"] > widths["check>again"] == 1.2


def test_an_error_flow_is_taken_when_its_error_is_caught() -> None:
    """A task that ended by an error is counted along its error flow alone, and one that did not along the others."""
    net = knhk.build("failing")
    work = net.task("work", handler="work")
    net.sequence(net.start, work, net.task("go_on"), net.end)
    work.to(net.task("sorry"), on_error="*").to(net.end)
    specification = net.specification()
    engine = knhk.Engine("memory:", clock=ManualClock(0))
    engine.handler("work")(lambda work: {"x": 1 // work.data["n"]})
    engine.register(specification)
    good, bad = (engine.create_case("failing", {"n": n}).run() for n in (1, 0))

    assert {"work": 1, "work>go_on": 1, "go_on": 1, "go_on>end": 1} == frequencies(specification, [good.history()])
    assert {"work": 1, "work>sorry": 1, "sorry": 1, "sorry>end": 1} == frequencies(specification, [bad.history()])
    flows = groups(parse(bad.draw(overlay="history")), "flow")
    assert ["visited" in flows[each].attrib["class"] for each in ("work>sorry", "work>go_on")] == [True, False]


def test_flows_follow_from_tasks_where_they_must() -> None:
    """Counts of tasks alone give those flows that cannot have another count."""
    root = parse(draw(choice(), frequencies={"close": 4, "check": 9, "again": 0}))
    flows = {name: words(each)[-1:] for name, each in groups(root, "flow").items()}

    assert (["4"], ["4"], ["0"]) == (flows["open>close"], flows["close>end"], flows["again>check"])
    assert [] == [each for each in flows["check>end"] if each.isdecimal()]
    assert "0" in words(groups(root, "task")["again"])


def test_frequencies_add_up_over_instances() -> None:
    """Paths with and without the number of an instance are the same task."""
    root = parse(draw(nested(), frequencies={"each#1/deep": 2, "each#2/deep": 3, "each/deep/work": 5}))

    assert "5" in words(groups(root, "task")["deep"])
    assert "5" in words(groups(root, "task")["work"])


def test_frequencies_that_fit_nowhere_are_refused() -> None:
    """An unknown name and a negative count are ValueErrors; so is the history of another specification."""
    with pytest.raises(ValueError, match="'x' is no task and no flow"):
        draw(choice(), frequencies={"x": 1})
    with pytest.raises(ValueError, match="'close' cannot have happened -1 times"):
        draw(choice(), frequencies={"close": -1})
    with pytest.raises(ValueError, match="'check' is no task of the specification 'small'"):
        frequencies(small(), [run(choice(), n=5).history()])


# --- what is refused --------------------------------------------------------------------------------------------------


def test_bad_arguments_are_refused() -> None:
    """Formats, nets and overlays that there are not, and two overlays at a time."""
    case = run(choice(), n=5000)
    with pytest.raises(ValueError, match="a picture is svg, mermaid, dot, not 'png'"):
        ORDER.draw("png")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no net 'x'; there is '', 'goods'"):
        ORDER.draw(net="x")
    with pytest.raises(ValueError, match="one at a time"):
        draw(ORDER, history=(), frequencies={})
    with pytest.raises(ValueError, match="an overlay is tokens, history, none, not 'all'"):
        case.draw(overlay="all")


def test_what_names_nothing_is_listed() -> None:
    """Flows, cancellation sets and read arcs without their ends are problems with a place; the rest need not be well-formed."""
    net = Net(
        tasks=(Task(id="a", cancels=("b",), reads=("c",)),),
        flows=(Flow(source="a", target="d"), Flow(source="start", target="a")),
    )

    with pytest.raises(SpecificationError) as caught:
        draw(Specification(id="x", root=net, subnets={"s": net}))

    assert [
        "flows: the flow a -> d names 'd', which is not there",
        "tasks.a: names 'b', which is not there",
        "tasks.a: names 'c', which is not there",
        "subnets.s.flows: the flow a -> d names 'd', which is not there",
    ] == [str(each) for each in caught.value.problems][:4]


# --- the documentation ------------------------------------------------------------------------------------------------


def test_the_pictures_of_the_documentation_are_those_that_are_drawn() -> None:
    """`python tools/draw_pictures.py` would write them as they are, but for what another Graphviz places a little aside."""
    found = importlib.util.spec_from_file_location("draw_pictures", ROOT / "tools" / "draw_pictures.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)

    for file, text in module.pictures().items():
        there = file.read_text(encoding="utf-8")
        assert re.sub(r"-?\d+(\.\d+)?", "0", text) == re.sub(r"-?\d+(\.\d+)?", "0", there)
        numbers = [[float(each) for each in re.findall(r"-?\d+(?:\.\d+)?", one)] for one in (text, there)]
        assert numbers[0] == pytest.approx(numbers[1], abs=3)
