"""Texts: strict JSON, YAML that means the same to everybody, files by suffix."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knhk.errors import MissingExtra, ParseError, SpecificationError
from knhk.spec import Specification, dump_yaml, load, parse_json, parse_yaml
from knhk.spec.json_text import MAX_CHARACTERS, read_json, write_json
from knhk.spec.yaml_text import read_yaml, write_yaml


@pytest.fixture(name="library", params=["C", "Python"])
def _library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both implementations of PyYAML: libyaml, and the one for where that is missing."""
    if request.param == "Python":
        yaml = importlib.import_module("yaml")
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
        monkeypatch.delattr(yaml, "CSafeDumper", raising=False)
    return str(request.param)


def found(read: Callable[[Any], object], text: str | bytes) -> list[tuple[str, str]]:
    """Places and messages of what reading a text finds."""
    with pytest.raises(ParseError) as caught:
        read(text)
    return [(each.place, each.message) for each in caught.value.problems]


BAD_JSON: list[tuple[str | bytes, str, str]] = [
    ("", "line 1, column 1", "not JSON: Expecting value"),
    ('{"id": "x",\n "id": "y"}', "line 2, column 2", 'the member "id" is there twice'),
    ('{"a": [{"b": 1, "\\u0062": 2}]}', "line 1, column 17", 'the member "b" is there twice'),
    ('{"id": NaN}', "line 1, column 8", "NaN is not a JSON number"),
    ('{"id": -Infinity}', "line 1, column 9", "Infinity is not a JSON number"),
    ('{"id": 1e999}', "line 1, column 8", "the number is too large"),
    ('{"id":\n 123456789012345678901}', "line 2, column 2", "the number does not fit into 64 bits"),
    ("[" + "9" * 5_000 + "]", "line 1, column 2", "the number is longer than 100 characters"),
    ("[0." + "9" * 5_000 + "]", "line 1, column 2", "the number is longer than 100 characters"),
    ('{"id": "\\ud800"}', "line 1, column 9", "half of a surrogate pair"),
    ('{"id": "\\ud800\\ud800\\udc00"}', "line 1, column 9", "half of a surrogate pair"),
    ('{"id": "\\ud800 \\udc00"}', "line 1, column 9", "half of a surrogate pair"),
    ('{"id": "\\udc00"}', "line 1, column 9", "half of a surrogate pair"),
    ('{"id": "\ud800"}', "line 1, column 9", "half of a surrogate pair"),
    (b'{"id":\n"\xff"}', "line 2, column 2", "the text is not UTF-8"),
    ('{"id": "x"}'.encode("utf-16"), "line 1, column 1", "the text is not UTF-8"),
    ('\ufeff{"id": "x"}', "line 1, column 1", "the text starts with a byte order mark"),
    ('{"id": "x"', "line 1, column 11", "not JSON: Expecting ',' delimiter"),
    ('{"id": "x"} {}', "line 1, column 13", "not JSON: Extra data"),
    ('{"id": "x', "line 1, column 8", "not JSON: Unterminated string"),
    ('{"id": "a\nb"}', "line 1, column 10", "not JSON: Invalid control character"),
    ("[" * 100_000, "line 1, column 65", "nested deeper than 64"),
    ('{"a":' * 65 + "1" + "}" * 65, "line 1, column 321", "nested deeper than 64"),
    ("[" * 100 + "]" * 100, "line 1, column 65", "nested deeper than 64"),
    (']" \\', "line 1, column 1", "not JSON: Expecting value"),
    (" " * (MAX_CHARACTERS + 1), "", "the text is longer than 33,554,432 characters"),
]


@pytest.mark.parametrize(("text", "place", "message"), BAD_JSON, ids=range(len(BAD_JSON)))
def test_strict_json_names_line_and_column(text: str | bytes, place: str, message: str) -> None:
    """What is not JSON, or only to lenient readers, is refused where it stands."""
    first, *others = found(parse_json, text)

    assert (place, others) == (first[0], [])
    assert message in first[1]


def test_json_gives_all_findings() -> None:
    """Several mistakes that can be read over are found at once."""
    assert found(read_json, '[NaN,\n 1e999,\n "\\udc00"]') == [
        ("line 1, column 2", "NaN is not a JSON number"),
        ("line 2, column 2", "the number is too large"),
        ("line 3, column 3", "half of a surrogate pair"),
    ]


def test_json_reads_what_is_json() -> None:
    """Surrogate pairs, escapes, depth 64 and numbers within 64 bits are read as `json` reads them."""
    text = '{"a": "\\ud83d\\ude00 \\\\ud800 NaN [{\\"", "b": [1, -2.5e-3, 18446744073709551615, true, null]}'
    deep = "[" * 64 + "]" * 64

    assert read_json(text) == json.loads(text)
    assert read_json(deep) == json.loads(deep)
    assert read_json(write_json(json.loads(text))) == json.loads(text)


def test_a_hostile_json_text_takes_linear_time() -> None:
    """Unclosed strings full of quotes and escapes do not make the reader slow."""
    began = time.process_time()
    for text in ('"\\"' * 300_000, '{"a":"' + "\\u0041" * 300_000, "-" * 1_000_000, "1" * 1_000_000, '"' * 1_000_001):
        found(read_json, text)

    assert time.process_time() - began < 5


BAD_YAML: list[tuple[str | bytes, str, str]] = [
    ("id: 'x", "line 1, column 7", "not YAML: found unexpected end of stream"),
    ("id: x\n id: y", "line 2, column 4", "not YAML: mapping values are not allowed"),
    ("id: x\nname: y\nid: z", "line 3, column 1", 'the member "id" is there twice'),
    (
        "id: on",
        "line 1, column 5",
        "id: on is true or false to some readers of YAML, and text to others: put it in quotes",
    ),
    ("id: s\ntasks:\n- id: No", "line 3, column 7", "tasks[0].id: No is true or false to some readers"),
    ("tasks:\n  yes: {}", "line 2, column 3", "tasks: yes is true or false to some readers"),
    ("tasks:\n  true: {}", "line 2, column 3", "tasks: the name of a member must be text, not true; put it in quotes"),
    ("tasks:\n  7: {}", "line 2, column 3", "tasks: the name of a member must be text, not the number 7"),
    ("tasks:\n  ~: {}", "line 2, column 3", "tasks: the name of a member must be text, not null"),
    ("? [a]\n: b", "line 1, column 3", "the name of a member must be text, not a list or a map"),
    ("data: {x: .nan}", "line 1, column 11", "data.x: .nan is not a finite number"),
    ("data: {x: -.inf}", "line 1, column 11", "data.x: -.inf is not a finite number"),
    ("data: {x: 1e999}", "line 1, column 11", "data.x: the number is too large"),
    ("data: {x: 123456789012345678901}", "line 1, column 11", "data.x: the number is too large"),
    ("id: !!python/object/apply:os.system ['true']", "line 1, column 5", "is not understood"),
    ("id: !!python/name:os.system x", "line 1, column 5", "is not understood"),
    ("id: !!binary aGk=", "line 1, column 5", "is not understood"),
    ("id: !x {}", "line 1, column 5", 'the tag "!x" is not understood'),
    ("id: s\n---\nid: t", "line 2, column 1", "a second document begins"),
    ("id: *nobody", "line 1, column 5", ""),
    ("data: &a [*a]", "line 1, column 11", 'the alias "a" stands inside of what it stands for'),
    ("data: {<<: 3}", "line 1, column 12", "what << merges must be a map, or a list of maps"),
    ("[" * 100_000, "line 1, column 65", "nested deeper than 64"),
    ("- " * 100_000, "line 1, column 129", "nested deeper than 64"),
    (b"id: \xff", "line 1, column 5", "the text is not UTF-8"),
    ("id: \x07", "line 1, column 5", ""),
]


@pytest.mark.parametrize(("text", "place", "message"), BAD_YAML, ids=range(len(BAD_YAML)))
def test_yaml_names_line_and_column(text: str | bytes, place: str, message: str, library: str) -> None:
    """What is not YAML, or is not the same to every reader, is refused where it stands, with its place in the tree."""
    first, *others = found(parse_yaml, text)

    # libyaml has a limit of its own on nesting, which some versions meet before ours.
    wording_is_theirs = "not YAML" in first[1] and (library == "Python" or "nesting depth" in first[1])
    assert message in first[1] or wording_is_theirs
    assert place == first[0] or wording_is_theirs
    assert others == []


def test_yaml_gives_all_findings(library: str) -> None:
    """Several mistakes that can be read over are found at once."""
    text = "id: on\ntasks:\n- id: off\n  id: x\nflows:\n- {from: a, 7: b}\n"

    assert [place for place, _ in found(read_yaml, text)] == [
        "line 1, column 5",
        "line 3, column 7",
        "line 4, column 3",
        "line 6, column 13",
    ], library


def nested_aliases(levels: int, width: int) -> str:
    """The text of lists of aliases of lists of aliases."""
    lines = ["id: s", "data:", "  l0: &l0 [x]"]
    for level in range(1, levels):
        lines.append(f"  l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * width)}]")
    return "\n".join(lines)


def test_yaml_bombs_are_refused_quickly(library: str) -> None:
    """Aliases that expand to too much, by width or by depth, are refused in the time of the short text."""
    began = time.process_time()

    assert "more than 4,000,000 values, aliases expanded" in found(parse_yaml, nested_aliases(12, 9))[0][1]
    assert "nested deeper than 64" in found(parse_yaml, nested_aliases(70, 1))[0][1]
    assert time.process_time() - began < 2, library


def test_yaml_anchors_aliases_and_merges_are_read(library: str) -> None:
    """Anchors, aliases, also of text, and merge keys mean what they mean in YAML; members that are written win."""
    text = """
    base: &base {a: 1, b: [2]}
    more: &more {b: 3, c: &text four}
    one: *base
    two: {<<: *base, b: 5}
    three:
      c: *text
      <<: [*more, *base]
    four: {"<<": 6}
    """

    assert read_yaml(text) == {
        "base": {"a": 1, "b": [2]},
        "more": {"b": 3, "c": "four"},
        "one": {"a": 1, "b": [2]},
        "two": {"a": 1, "b": 5},
        "three": {"c": "four", "b": 3, "a": 1},
        "four": {"<<": 6},
    }, library


def test_yaml_scalars_follow_the_core_schema(library: str) -> None:
    """Plain words are read by YAML 1.2: no octal by zero, no base sixty, no dates, no underscores."""
    text = (
        "[010, 0o10, 0x1F, +1, -0, 1.5, .5, 1e3, 12:30, 1_000, 2026-01-01, true, False, ~, , NULL, y, n, !!str 7, '7']"
    )
    expected = ["010", 8, 31, 1, 0, 1.5, 0.5, 1000.0, "12:30", "1_000", "2026-01-01"]

    assert read_yaml(text.replace(" ,", "")) == [*expected, True, False, None, None, "y", "n", "7", "7"], library


def test_very_long_digits_are_text_in_yaml(library: str) -> None:
    """A word of digits that is no number anybody counts with is not converted at all."""
    assert read_yaml("9" * 101) == "9" * 101, library


def test_versions_keep_their_spelling(library: str) -> None:
    """A version written as a number keeps its zeros, in YAML and in JSON."""
    texts = {"1.0": "1.0", "1.10": "1.10", "2": "2", "2026-01-01": "2026-01-01", "010": "010", "'1'": "1"}

    assert {each: parse_yaml(f"id: s\nversion: {each}").version for each in texts} == texts, library
    assert parse_json('{"id": "s", "version": 1.10}').version == "1.10"


def test_json_texts_are_yaml(library: str) -> None:
    """A JSON text of ordinary characters is read as YAML with the same result."""
    tree = {"id": "s", "name": 'Ünï \\ "x" 😀', "data": {"a": [1, 2.5, True, None, {}]}}
    specification = Specification.from_dict(tree)

    assert parse_yaml(specification.to_json()) == parse_yaml(json.dumps(tree, ensure_ascii=False)) == specification, (
        library
    )


def test_written_yaml_reads_alike_everywhere(library: str) -> None:
    """What is written needs no knowledge of this reader: PyYAML's own gives the same tree."""
    words = [
        "yes",
        "No",
        "010",
        "0o17",
        "1e5",
        "1.0",
        "12:30",
        "2026-01-01",
        "~",
        "",
        "null",
        "a: b",
        "<<",
        "=",
        "true",
    ]
    tree = {"id": "s", "data": {"words": words, "numbers": [1, 2.5, True, None]}}

    assert importlib.import_module("yaml").safe_load(write_yaml(tree)) == tree, library
    assert read_yaml(write_yaml(tree)) == tree


def test_shared_parts_are_written_out(library: str) -> None:
    """Written YAML has no anchors, even where the same object stands twice in the tree."""
    part = {"type": "number"}

    assert "&" not in dump_yaml(Specification(id="s", data={"a": part, "b": part})), library


def test_an_empty_yaml_text_is_no_specification(library: str) -> None:
    """Nothing at all is answered as what it is."""
    with pytest.raises(SpecificationError, match="must be a map of members, not null"):
        parse_yaml("# nothing\n")
    assert library


def test_a_missing_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyYAML, YAML is refused with the command that installs it, and JSON still works."""

    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)

    with pytest.raises(MissingExtra, match=r"pip install 'knhk\[yaml\]'"):
        parse_yaml("id: s")
    with pytest.raises(MissingExtra):
        Specification(id="s").to_yaml()
    assert parse_json('{"id": "s"}').id == "s"


@pytest.mark.parametrize("suffix", [".json", ".yaml", ".yml", ".YAML"])
def test_files_are_loaded_by_suffix(tmp_path: Path, suffix: str) -> None:
    """A file is read in the format that its suffix says, and checked by `Specification.load`."""
    path = tmp_path / f"order{suffix}"
    path.write_text('{"id": "order", "conditions": ["unused"]}')

    assert load(path) == load(str(path))
    with pytest.raises(SpecificationError, match=r"conditions\.unused: it is not used"):
        Specification.load(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Problems of a text name its file; an unknown suffix and a missing file say so."""
    (tmp_path / "a.json").write_text('{"id": }')
    (tmp_path / "a.txt").write_text("")

    with pytest.raises(ParseError, match=r"a\.json, line 1, column 8: not JSON"):
        Specification.load(tmp_path / "a.json")
    with pytest.raises(ParseError, match=r"a\.txt: the suffix must be one of \.json, \.yaml, \.yml, not '\.txt'"):
        Specification.load(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError):
        Specification.load(tmp_path / "absent.json")


def test_the_class_reads_and_writes_all_forms() -> None:
    """The class methods read what the methods write."""
    specification = Specification(id="order", version="2", name="Order")

    assert Specification.from_json(specification.to_json()) == specification
    assert Specification.from_json(specification.to_json(indent=None).encode()) == specification
    assert Specification.from_yaml(specification.to_yaml()) == specification
    assert Specification.from_dict(specification.to_dict()) == specification
    assert specification.to_yaml() == "id: order\nname: Order\nversion: '2'\n"
