"""Expressions of the subset: what they mean, what they refuse, what their errors tell."""

from __future__ import annotations

import ast
import copy
import math
import operator
import sys
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import knhk.expr
from knhk._expr_compile import fault_of
from knhk._expr_values import ordered
from knhk.errors import DataError, MissingExtra, ParseError, SpecificationError
from knhk.expr import (
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_PAIRS,
    MAX_TEXT,
    Expression,
    compile_expression,
    name_element,
    references,
)

DATA: dict[str, Any] = {
    "amount": 1500, "rate": 1.5, "region": "EU", "ok": True, "off": False, "none": None, "items": [1, 2, 3], "zero": 0,
    "order": {"total": 10.5, "lines": [{"price": 3}, {"price": 4}], "x": {"y": {"z": 1}}}, "huge": 10**400, "empty": [],
    "when": Decimal(1), "pair": (1, 2), "nan": math.nan, "one": 1, "words": ["a", "b", None, 1.0], "key": "region",
}  # fmt: skip


def value_of(text: str, data: object = None, **variables: object) -> object:
    """Evaluate over the data above, or these."""
    given = {"data": DATA if data is None else data, **variables}
    return compile_expression(text, variables=tuple(given)).evaluate(given)


def error_of(text: str, data: object = None, **variables: object) -> DataError:
    """Return the error of an evaluation."""
    with pytest.raises(DataError) as caught:
        value_of(text, data, **variables)
    return caught.value


def problems_of(text: str, **options: Any) -> list[str]:
    """Return the messages of what is wrong with a text, without the excerpts."""
    with pytest.raises(ParseError) as caught:
        compile_expression(text, **options)
    return [problem.message.split("\n")[0] for problem in caught.value.problems]


# --- Values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # literals
        ("1", 1), ("-1", -1), ("0x1F", 31), ("-0x8000000000000000", -(2**63)), ("1.5", 1.5), (".5e1", 5.0),
        ("true", True),
        ("null", None), ("'a'", "a"), (r'"\x41\u00e9\U0001F600\101\n\'"', "Aé😀A\n'"), (r"r'\n'", "\\n"),
        (r"R'\\'", "\\\\"),
        ('"""a"\r\nb"""', 'a"\nb'), ("'''a\rb'''", "a\nb"), ("[1, 'a', [null],]", [1, "a", [None]]),
        ("{'a': 1, 'b': {},}", {"a": 1, "b": {}}),
        ("{data.region: 1}", {"EU": 1}), ("[]", []), ("// one\n1 // two", 1),
        # members and elements
        ("data.amount", 1500), ("data.order.total", 10.5), ("data.order.x.y.z", 1), ("data['order'].lines[1].price", 4),
        ("data['order']['total']", 10.5), ("data[data.key]", "EU"),
        ("data.order[data.key == 'region' ? 'total' : 'x']", 10.5),
        ("data.items[0]", 1), ("data.items[1.0]", 2), ("{'a': 1}.a", 1), ("{'a': 1}['a']", 1),
        ("has(data.amount)", True), ("has(data.zz)", False),
        ("has(data.order.x)", True), ("has({'a': 1}.b)", False), ("(data).amount", 1500),
        # equality
        ("1 == 1.0", True), ("true == 1", False), ("data.ok == 1", False), ("data.one == true", False),
        ("data.none == null", True),
        ("data.amount == null", False), ("data.amount != null", True), ("data.region == 'EU'", True),
        ("data.region != 'EU'", False), ("data.region == 1", False),
        ("data.rate == data.amount", False), ("data.one == 1.0", True), ("1.0 == data.one", True),
        ("data.nan == data.nan", False), ("[data.nan] == [data.nan]", False),
        ("[true] == [1]", False), ("[1, 2] == [1.0, 2.0]", True), ("[1] == [1, 2]", False),
        ("{'a': [1]} == {'a': [1.0]}", True),
        ("{'a': 1} == {'b': 1}", False), ("{'a': 1} == {'a': 2}", False), ("[] == {}", False),
        ("data.items != [1, 2, 3]", False), ("data.huge == 1.5", False),
        ("data.huge == data.huge", True), ("data.huge == data.rate", False), ("data.rate < data.huge", True),
        ("9007199254740993 == 9007199254740992.0", True), ("data.one == 9007199254740993", False),
        # order
        ("data.amount > 1000", True), ("1000 < data.amount", True), ("1000 >= data.amount", False),
        ("data.rate <= 1", False), ("data.amount > 0.5", True),
        ("data.region < 'F'", True), ("data.off < true", True), ("data.amount >= data.one", True),
        ("data.rate < data.amount", True),
        ("data.order.total > 5.0", True), ("size(data.items) > 2", True), ("data.huge > 1.5", True),
        ("data.nan < 1", False), ("1 <= data.nan", False),
        ("data.rate > 9007199254740993", False), ("9007199254740993 > 9007199254740992.0", False),
        ("data.amount + 1 > 1500.5", True),
        # logic
        ("data.ok && data.amount > 1", True), ("data.off && data.zz", False), ("data.zz && data.off", False),
        ("data.zz || data.ok", True), ("data.ok || data.zz", True),
        ("data.off || data.off", False), ("data.off || data.ok", True), ("1 && false", False),
        ("data.region || true", True), ("has(data.zz) && data.zz > 1", False),
        ("has(data.amount) && data.amount > 1", True),
        ("has(data.amount) && data.off", False), ("true && data.ok && data.amount == 1500", True),
        ("data.zz == 1 && data.ok && data.off", False), ("data.off || data.zz || data.ok", True),
        ("data.off || data.off || data.off", False), ("data.zz || data.yy || data.ok", True),
        ("data.ok && (data.ok && data.ok)", True), ("!data.ok", False), ("!!5", 5), ("!!!data.ok", False),
        ("data.ok ? 'yes' : data.zz", "yes"), ("data.off ? data.zz : 'no'", "no"),
        ("data.off ? 1 : data.ok ? 2 : 3", 2), ("data.ok ? true : false", True),
        # arithmetic
        ("1 + 2 * 3 - 4", 3), ("(1 + 2) * 3", 9), ("-7 / 2", -3), ("7 / -2", -3), ("-7 / -2", 3), ("-7 % 2", -1),
        ("7 % -2", 1), ("7 % -1", 0), ("7.0 / 2.0", 3.5),
        ("1.5 + 1.5", 3.0), ("1.5 - 1.0", 0.5), ("1.5 * 2.0", 3.0), ("1.0 / 0.0", math.inf),
        ("-1.0 / 0.0", -math.inf), ("1.0 / -0.0", -math.inf), ("'a' + 'b'", "ab"), ("[1] + [2]", [1, 2]),
        ("-data.amount", -1500), ("-data.rate", -1.5), ("--data.amount", 1500), ("-(-5)", 5), ("1 - -1", 2),
        ("9223372036854775807 + 0", 2**63 - 1), ("2 - 3", -1),
        # in
        ("1 in [1.0, 'a']", True), ("data.region in ['EU', 'US']", True), ("data.one in ['EU', 'US']", False),
        ("data.rate in [1, 2]", False), ("data.ok in [1, 2]", False), ("data.one in [1.0, 2]", True),
        ("1 in []", False), ("data.none in [null]", True), ("2.0 in data.items", True), ("'b' in data.words", True),
        ("null in data.words", True), ("true in data.words", False), ("'amount' in data", True),
        ("'zz' in data.order", False), ("1 in data.order", False), ("[1] in [[1.0]]", True),
        ("[data.one] in [[1], [2]]", True), ("data.one in data.empty", False),
        # functions
        ("size('😀')", 1), ("data.items.size()", 3), ("size(data.order)", 3), ("'abc'.startsWith('ab')", True),
        ("'abc'.endsWith('x')", False), ("'abc'.contains('b')", True),
        ("int(3)", 3), ("int(true)", 1), ("int(-1.9)", -1), ("int(' +12 ')", 12),
        ("int('-9223372036854775808')", -(2**63)), ("double(2)", 2.0), ("double(2.5)", 2.5), ("double(' 1e2 ')", 100.0),
        ("string('a')", "a"), ("string(true)", "true"), ("string(false)", "false"), ("string(-5)", "-5"),
        ("string(1.0)", "1"), ("string(-1.5)", "-1.5"), ("string(1e6)", "1e+06"),
        ("string(-1234567.5)", "-1.2345675e+06"),
        ("string(1e-7)", "1e-07"), ("string(1e20)", "1e+20"), ("string(1.0 / 0.0)", "inf"),
        ("string(0.0 / 0.0)", "nan"), ("bool('true')", True), ("bool('0')", False), ("bool(data.ok)", True),
    ],
)  # fmt: skip
def test_value(text: str, expected: object) -> None:
    """An expression has its value, and its type: True is not 1, 1 is not 1.0."""
    value = value_of(text)

    assert expected == value
    assert repr(expected) == repr(value)


def test_nan() -> None:
    """Zero by zero and NaN by zero are not a number."""
    assert "[nan, nan]" == repr(value_of("[0.0 / 0.0, data.nan / 0.0]"))


def test_result_list_is_fresh() -> None:
    """Evaluating a list display twice gives two lists."""
    expression = compile_expression("[1]")

    assert expression.of_data({}) is not expression.of_data({})


def test_nothing_is_changed() -> None:
    """An evaluation leaves the data as they are."""
    before = copy.deepcopy(DATA)
    value_of("data.items + [4] == [1] || has(data.zz) || size(data.order) > 1 || data.zz")

    assert before == DATA


# --- Errors of an evaluation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message", "value"),
    [
        # members and elements
        ("data.zz", "`data` has no member `zz`", DATA),
        ("data.order.zz", "`data.order` has no member `zz`", DATA["order"]),
        ("data.zz.total", "`data` has no member `zz`", DATA),
        ("data.order.x.zz.z", "`data.order.x` has no member `zz`", DATA["order"]["x"]),
        ("data.amount.x", "`data.amount` is an int and so has no member `x`", 1500),
        ("data.none.x.y", "`data.none` is null and so has no member `x`", None),
        ("data.zz > 1", "`data` has no member `zz`", DATA),
        ("data.zz == null", "`data` has no member `zz`", DATA),
        ("data.items[0].x", "`data.items[0]` is an int and so has no member `x`", 1),
        ("{'a': 1}.b", "`{'a': 1}` has no member `b`", {"a": 1}),
        ("has(data.items.x)", "`data.items` is a list and so has no member `x`", [1, 2, 3]),
        ("data.items[3]", "the index is outside the list of 3", 3),
        ("data.items[-1]", "the index is outside the list of 3", -1),
        ("data.items['a']", "`data.items` is a list and so has no member `a`", [1, 2, 3]),
        ("data.items[data.key]", "the index of a list is an int, not a string", "region"),
        ("data.items[1.5]", "the index of a list is an int, not a double", 1.5),
        ("data.amount[0]", "an int has no elements", 1500),
        ("data.order[1]", "the keys of a map are strings, not an int", 1),
        ("data.order[data.key]", "the map has no such key", "region"),
        ("{data.one: 1}", "the keys of a map are strings here, as in JSON, not an int", 1),
        ("{data.key: 1, 'region': 2}", "a map has this key twice", "region"),
        # operators
        ("data.amount > 'a'", "an int and a string have no order", (1500, "a")),
        ("data.ok > 0", "a bool and an int have no order", (True, 0)),
        ("data.none < 1", "null and an int have no order", (None, 1)),
        ("data.none < null", "null and null have no order", (None, None)),
        ("data.items < data.items", "a list and a list have no order", ([1, 2, 3], [1, 2, 3])),
        ("data.when == 1", "a value is an object of type Decimal, which is not JSON", Decimal(1)),
        ("data.when == data.when", "a value is an object of type Decimal, which is not JSON", Decimal(1)),
        ("[data.pair] == [1]", "a value is an object of type tuple, which is not JSON", (1, 2)),
        ("1 + 1.5", "`+` does not take an int and a double; convert one with double() or int()", (1, 1.5)),
        ("true + true", "`+` does not take a bool and a bool", (True, True)),
        ("'a' - 'b'", "`-` does not take a string and a string", ("a", "b")),
        ("1 - 'b'", "`-` does not take an int and a string", (1, "b")),
        ("'a' * 3", "`*` does not take a string and an int", ("a", 3)),
        ("[1] * [1]", "`*` does not take a list and a list", ([1], [1])),
        ("null / 1", "`/` does not take null and an int", (None, 1)),
        ("'a' / 'b'", "`/` does not take a string and a string", ("a", "b")),
        ("1.5 % 1.0", "`%` does not take a double and a double", (1.5, 1.0)),
        ("1 % 1.0", "`%` does not take an int and a double; convert one with double() or int()", (1, 1.0)),
        ("-data.region", "`-` does not take a string", "EU"),
        ("1 / 0", "division by zero", 1),
        ("1 % 0", "modulus by zero", 1),
        ("9223372036854775807 + 1", "the result does not fit in 64 bits", (2**63 - 1, 1)),
        ("-9223372036854775808 - 1", "the result does not fit in 64 bits", (-(2**63), 1)),
        ("9223372036854775807 * 2", "the result does not fit in 64 bits", (2**63 - 1, 2)),
        ("-9223372036854775808 / -1", "the result does not fit in 64 bits", (-(2**63), -1)),
        ("-9223372036854775808 % -1", "the result does not fit in 64 bits", (-(2**63), -1)),
        ("-(-9223372036854775808)", "the result does not fit in 64 bits", -(2**63)),
        ("1 in data.amount", "`in` needs a list or a map, not an int", 1500),
        ("'a' in data.region", "`in` needs a list or a map, not a string", "EU"),
        ("null in data.order", "null cannot be a key of a map", None),
        # logic
        ("data.amount && true", "`data.amount` is an int, not a bool", 1500),
        ("true && data.region", "`data.region` is a string, not a bool", "EU"),
        ("data.zz && true", "`data` has no member `zz`", DATA),
        ("data.zz || data.off", "`data` has no member `zz`", DATA),
        ("data.off || data.region", "`data.region` is a string, not a bool", "EU"),
        ("data.zz && data.yy", "`data` has no member `zz`", DATA),
        ("data.zz && true && true", "`data` has no member `zz`", DATA),
        ("true && true && data.one", "`data.one` is an int, not a bool", 1),
        ("!data.amount", "`data.amount` is an int, not a bool", 1500),
        ("data.one ? 1 : 2", "`data.one` is an int, not a bool", 1),
        ("has(data.one) && data.one", "`data.one` is an int, not a bool", 1),
        # functions
        ("size(1)", "`size` does not take an int", 1),
        ("'a'.contains(1)", "`contains` needs two strings, not an int", 1),
        ("data.amount.startsWith('a')", "`startsWith` needs two strings, not an int", 1500),
        ("'a'.endsWith(null)", "`endsWith` needs two strings, not null", None),
        ("int(null)", "`int` does not take null", None),
        ("int(1e19)", "the double is outside the 64-bit integers", 1e19),
        ("int('1_0')", "the string is no 64-bit integer", "1_0"),
        ("int('٥')", "the string is no 64-bit integer", "٥"),
        ("int('9223372036854775808')", "the string is no 64-bit integer", "9223372036854775808"),
        ("int('99999999999999999999')", "the string is no 64-bit integer", "9" * 20),
        ("double(true)", "`double` does not take a bool", True),
        ("double('x')", "the string is no number", "x"),
        ("double('1_0')", "the string is no number", "1_0"),
        ("double(data.huge)", "the result does not fit in 64 bits", 10**400),
        ("string(null)", "`string` does not take null", None),
        ("string(data.huge)", "the result does not fit in 64 bits", 10**400),
        ("bool('yes')", "the string is neither true nor false", "yes"),
        ("bool(1)", "`bool` does not take an int", 1),
    ],
)  # fmt: skip
def test_error(text: str, message: str, value: object) -> None:
    """What cannot be evaluated is a DataError with the message, the expression and the offending value."""
    error = error_of(text)

    assert f"{message} in `{text}`" == str(error)
    assert (text, "", value) == (error.expression, error.element, error.value)


def test_error_tells_no_values() -> None:
    """A message names members and types, never the case data."""
    assert "secret" not in str(error_of("data.name > 1", {"name": "secret"}))


def test_long_operand_is_cut() -> None:
    """A message quotes no more than the beginning of a long operand."""
    text = "data." + "x" * 100 + ".y"

    assert f"`data.{'x' * 55}...` is an int" in str(error_of(text, {"x" * 100: 1}))


@pytest.mark.parametrize("data", [None, 5, "text", [1]])
@pytest.mark.parametrize(
    "text", ["data.x", "data.x > 1", "data.x.y", "data.x.y.z", "has(data.x) && true", "data.x ? 1 : 2"]
)
def test_data_that_is_no_map(text: str, data: Any) -> None:
    """Case data that are no map are an error, whatever closure reads them."""
    with pytest.raises(DataError, match="and so has no member `x`"):
        compile_expression(text).of_data(data)


def test_subclass_of_a_map() -> None:
    """A subclass of a JSON type is no JSON."""
    assert "an object of type OrderedDict" in str(error_of("data.x == {}", {"x": OrderedDict()}))


def test_general_order() -> None:
    """The general comparison is whole without its shortcuts."""
    fault = fault_of("")

    assert ordered(operator.lt, 1, 2, fault) is True
    assert ordered(operator.lt, "b", "a", fault) is False
    assert ordered(operator.lt, 1, 1.5, fault) is True


# --- Limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["x" * (MAX_LENGTH // 2 + 1), [0] * (MAX_LENGTH // 2 + 1)])
def test_long_result(part: object) -> None:
    """A joined string or list beyond the limit is an error."""
    assert f"longer than {MAX_LENGTH:,}" in str(error_of("data.x + data.x", {"x": part}))


def test_wide_comparison() -> None:
    """A comparison of shared parts that would look at too many pairs is an error, soon."""
    wide: list[Any] = [0] * 1000
    for _ in range(4):
        wide = [wide] * 1000

    assert f"more than {MAX_PAIRS:,} pairs" in str(error_of("data.x == data.y", {"x": wide, "y": [wide[0]] * 1000}))


def test_deep_data() -> None:
    """Data of any depth are compared without recursion."""
    deep: list[Any] = []
    other: list[Any] = []
    for _ in range(100_000):
        deep, other = [deep], [other]

    assert value_of("data.x == data.y", {"x": deep, "y": other}) is True


def test_deep_logic_costs_little() -> None:
    """An error below many levels of logic does not make any operand be evaluated twice."""

    class Counted(dict[str, Any]):  # noqa: FURB189 - what is counted is the lookup of a dict
        reads = 0

        def __getitem__(self, key: str) -> Any:
            Counted.reads += 1
            return super().__getitem__(key)

    levels = MAX_DEPTH // 2 - 2
    text = "data.a && (data.b || (" * levels + "data.zz" + "))" * levels
    with pytest.raises(DataError, match="zz"):
        compile_expression(text).test_data(Counted(a=True, b=False))

    assert 2 * levels + 1 == Counted.reads


@pytest.mark.parametrize(
    "text",
    [
        "(" * 2000 + "1" + ")" * 2000, "[" * 2000, "{'a':" * 700, "data[" * 800, "int(" * 1000,
        "true ? 1 : " * 300 + "1", "-(" * 1500, "1" + " + 1" * 900, "1" + " == 1" * 700,
        "data" + ".a" * 1500, "data" + "[0]" * 1200, "''" + ".size()" * 500, "!(" * 1000, "true && (true || (" * 200,
    ],
)  # fmt: skip
def test_too_deep(text: str) -> None:
    """A text of too many levels is refused by name, never by a RecursionError."""
    assert "levels deep" in problems_of(text)[0]


def test_three_thousand_parentheses() -> None:
    """Three thousand parentheses are refused."""
    text = "(" * 3000 + "1" + ")" * 3000

    assert ["column 4097: an expression has at most 4,096 characters, not 6,001"] == problems_of(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * (MAX_DEPTH - 1) + "1" + ")" * (MAX_DEPTH - 1), "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1),
        "1" + " + 1" * (MAX_DEPTH - 1),
        " && ".join(["data.ok"] * 370), " || ".join(["data.off"] * 340), "!" * 4000 + "data.ok",
        "-" * 4000 + "data.one",
    ],
)  # fmt: skip
def test_just_not_too_deep(text: str) -> None:
    """A text at the limit compiles and evaluates; chains of logic and of signs are no levels."""
    compile_expression(text).evaluate({"data": DATA})


@pytest.mark.parametrize(
    "text",
    [
        "(" * 9 + "data.ok" + " || data.zz ? 1 : 2) == 1" * 9, "(" * 31 + "data.ok" + ")" * 31, "[" * 31 + "]" * 31,
        "!(true && " * 14 + "data.ok" + ")" * 14, "data.ok" + " == true" * 30, "int(" * 30 + "1" + ")" * 30,
        "data.ok && (data.off || " * 14 + "data.ok" + ")" * 14, "data.ok ? (data.off ? 2 : " * 15 + "3" + ") : 1" * 15,
        "{'a':" * 31 + "1" + "}" * 31, "size([" * 15 + "1" + "])" * 15,
    ],
)  # fmt: skip
def test_few_frames(text: str) -> None:
    """An expression at the limit of depth needs no more than 300 frames of the stack."""
    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back  # type: ignore[assignment]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 300)
    try:
        compile_expression(text).of_data(DATA)
    finally:
        sys.setrecursionlimit(limit)


def test_longest_text() -> None:
    """A text of the greatest length is taken, one character more is not."""
    compile_expression("1" + " " * (MAX_TEXT - 1))

    assert "at most 4,096 characters" in problems_of("1" + " " * MAX_TEXT)[0]


# --- Refused when compiling ------------------------------------------------------------------------------------------


EXTRA = 'is not in the core\'s subset of CEL: install knhk[cel] and use dialect="full"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 1: the expression ends here; expected a value"),
        ("1 +", "column 4: the expression ends here; expected a value"),
        ("(1", "column 3: the expression ends here; expected `)`"),
        ("1 2", "column 3: `2` is unexpected here; expected the end, or an operator"),
        ("1)", "column 2: `)` is unexpected here; expected the end, or an operator"),
        ("data.", "column 6: the expression ends here; expected a member's name"),
        ("data.in", 'column 6: `in` cannot follow a dot: write ["in"]'),
        ("data[1", "column 7: the expression ends here; expected `]`"),
        ("data[1, 2]", "column 7: `,` is unexpected here; expected `]`"),
        ("[1 2]", "column 4: `2` is unexpected here; expected `]`"),
        ("[,]", "column 2: `,` is unexpected here; expected a value"),
        ("{1: 2}", "column 2: the keys of a map are strings here, as in JSON"),
        ("{'a': 1, 'a': 2}", "column 10: this key is in the map already"),
        ("{'a'}", "column 5: `}` is unexpected here; expected `:`"),
        ("{'a': 1 'b': 2}", "column 9: `'b'` is unexpected here; expected `}`"),
        ("true ? 1", "column 9: the expression ends here; expected `:`"),
        ("true ? true ? 1 : 2 : 3", "column 13: `?` is unexpected here; expected `:`"),
        ("-!true", "column 2: `!` is unexpected here; expected a value"),
        ("true and false", "column 6: `and` is unexpected here; write `&&`"),
        ("1 = 1", "column 3: '=' is not part of the language: write `==`"),
        ("1 & 1", "column 3: '&' is not part of the language: write `&&`"),
        ("$x", "column 1: '$' is not part of the language"),
        ("data.`a`", 'column 6: a name in backquotes is not in the subset: write data["name"]'),
        ("'abc", "column 1: this string does not end (a line break needs triple quotes or \\n)"),
        ("'a\nb'", "line 1, column 1: this string does not end (a line break needs triple quotes or \\n)"),
        (r"'\z'", r"""column 1: `\z` is no escape; some are \n \t \\ \" \' \xHH \uHHHH \UHHHHHHHH"""),
        (r"'\u12'", r"""column 1: `\u` is no escape; some are \n \t \\ \" \' \xHH \uHHHH \UHHHHHHHH"""),
        (r"'\ud800'", r"column 1: `\ud800` is no Unicode character"),
        (r"'\U00110000'", r"column 1: `\U00110000` is no Unicode character"),
        (r"r'a\'", "column 1: a raw string cannot end with a single backslash"),
        ("rb'a'", 'column 1: `rb` cannot stand before a string: write r"..."'),
        ("b'a'", f"column 1: a bytes literal {EXTRA}"),
        ("1u", f"column 1: an unsigned integer {EXTRA}"),
        ("data.?a", f"column 6: an optional member {EXTRA}"),
        ("data[?'a']", f"column 6: an optional element {EXTRA}"),
        ("9223372036854775808", "column 1: this integer does not fit in 64 bits"),
        ("1 - -9223372036854775809", "column 5: this integer does not fit in 64 bits"),
        ("if", "column 1: `if` is a reserved word: a member of that name is written data.if"),
        ("amount > 1", "column 1: unknown variable `amount`: known here: `data`; did you mean `data.amount`?"),
        ("True", "column 1: unknown variable `True`: known here: `data`; did you mean `true`?"),
        ("len(data.x)", "column 1: unknown function `len`; did you mean `size`?"),
        ("foo(1)", "column 1: unknown function `foo`"),
        ("data.foo(1)", "column 6: unknown method `foo`"),
        ("'a'.matches('b')", f"column 5: `matches` {EXTRA}"),
        ("data.l.all(x, true)", None),
        ("timestamp('2020')", f"column 1: `timestamp` {EXTRA}"),
        ("startsWith('a', 'b')", "column 1: `startsWith` is a method: write x.startsWith(y)"),
        ("'5'.int()", "column 5: `int` is a function: write int(x)"),
        ("data.has(data.x)", "column 6: `has` is a function: write has(x)"),
        ("size()", "column 1: `size` takes 1 argument(s) as a function, not 0"),
        ("'a'.size(1)", "column 5: `size` takes 0 argument(s) as a method, not 1"),
        ("has(data)", "column 1: `has` takes one member, as in has(data.name); for other keys write `in`"),
        ("has(data.x, data.y)", "column 1: `has` takes one member, as in has(data.name); for other keys write `in`"),
        ("has(data['x'])", "column 1: `has` takes one member, as in has(data.name); for other keys write `in`"),
        ("1 ==\n  $", "line 2, column 3: '$' is not part of the language"),
    ],
)  # fmt: skip
def test_refused(text: str, message: str | None) -> None:
    """What is no expression of the subset is a ParseError that says where and what would be right."""
    problems = problems_of(text)

    assert (message or f"column 8: `all` {EXTRA}") in problems


def test_every_unknown_name_is_told() -> None:
    """All unknown names are reported together, a syntax error after them as well."""
    problems = problems_of("a && b.c && ")

    assert ["column 1", "column 6", "column 13"] == [problem.split(":")[0] for problem in problems]


def test_excerpt() -> None:
    """A problem shows the line with a caret below the place."""
    with pytest.raises(SpecificationError) as caught:
        compile_expression("data.a &&\n\tdata.b = 1")

    assert (
        "line 2, column 9: '=' is not part of the language: write `==`\n"
        "       data.b = 1\n"
        "              ^"
    ) == caught.value.problems[0].message  # fmt: skip


def test_excerpt_of_a_long_line() -> None:
    """Of a long line, a problem shows the part around the place."""
    with pytest.raises(ParseError) as caught:
        compile_expression("data.a + " * 3 + "$" + " + data.a" * 50)
    _, line, caret = caught.value.problems[0].message.split("\n")

    assert "$" == line[caret.index("^")]
    assert 6 + 72 == len(line)


def test_variables() -> None:
    """Only the variables passed may be used; the message lists them."""
    names = ("data", "item", "index")

    assert 3 == compile_expression("item.x + index", variables=names).evaluate({"item": {"x": 1}, "index": 2})
    assert [
        "column 1: unknown variable `itme`: known here: `data`, `index`, `item`; did you mean `data.itme`?"
    ] == problems_of("itme", variables=names)
    assert ["column 1: unknown variable `x`: known here: none"] == problems_of("x", variables=())


# --- The expression as an object -------------------------------------------------------------------------------------


def test_attributes() -> None:
    """An expression tells its text, variables and dialect."""
    expression = compile_expression("data.a", variables=["data", "item"])

    assert isinstance(expression, Expression)
    assert "data.a" == expression.text
    assert frozenset({"data", "item"}) == expression.variables
    assert "subset" == expression.dialect
    assert "<Expression 'data.a'>" == repr(expression)


def test_frozen() -> None:
    """An expression cannot be changed."""
    expression = compile_expression("data.a")

    with pytest.raises(AttributeError):
        expression.text = "data.b"  # type: ignore[misc]


def test_identity() -> None:
    """Two expressions are equal if text and variables are."""
    expression = compile_expression("data.a")

    assert compile_expression("data.a") == expression
    assert compile_expression("data.b") != expression
    assert compile_expression("data.a", variables=("data", "item")) != expression
    assert expression != "data.a"
    assert 2 == len({expression, compile_expression("data.a"), compile_expression("data.b")})


def test_other_variables() -> None:
    """An expression over several variables reads each from the mapping."""
    names = ("data", "item", "index")
    variables = {"data": {"limit": 2}, "item": {"price": 3, "deep": {"x": {"y": 1}}}, "index": 0}

    def value(text: str) -> object:
        return compile_expression(text, variables=names).evaluate(variables)

    assert value("item.price > data.limit && index == 0") is True
    assert value("item.deep.x.y + index") == 1
    assert value("has(item.price) && item.price == 3") is True
    assert value("item == item") is True
    assert value("[item.price, data.limit]") == [3, 2]


@pytest.mark.parametrize("text", ["item", "item.x", "item.x.y", "item > 1", "data.x == item", "has(item.x) && true"])
def test_variable_not_given(text: str) -> None:
    """A variable that is used and not given is an error."""
    expression = compile_expression(text, variables=("data", "item"))

    with pytest.raises(DataError, match="the variable `item` is not given"):
        expression.of_data({"x": 1})


def test_data_not_given() -> None:
    """Variables without `data` are an error."""
    with pytest.raises(DataError, match="the variable `data` is not given"):
        compile_expression("data.x").evaluate({})


def test_hot_path() -> None:
    """`of_data` gives any value and `test_data` insists on a bool, with data alone."""
    expression = compile_expression("data.x")

    assert 1 == expression.of_data({"x": 1})
    assert expression.test_data({"x": True}) is True
    with pytest.raises(DataError, match=r"`data\.x` is an int, not a bool"):
        expression.test_data({"x": 1})


@pytest.mark.parametrize(
    "text",
    [
        "data.x == 1", "!data.b", "data.b && data.b", "1 in [1]", "has(data.x)", "true", "bool('1')",
        "data.b ? true : data.x > 1", "'a'.contains('a')",
    ],
)  # fmt: skip
def test_predicate_without_a_check(text: str) -> None:
    """A predicate that gives a bool by its shape is not checked again."""
    expression = compile_expression(text)

    assert expression.test_data({"x": 1, "b": True}) in (True, False)
    assert expression.of_data.__qualname__ == expression.test_data.__qualname__


@pytest.mark.parametrize(
    "text", ["data.b", "1", "-1", "size(data)", "data.b ? 1 : true", "data.b ? true : 1", "[true]"]
)
def test_predicate_with_a_check(text: str) -> None:
    """A predicate that may give anything is checked."""
    assert "insist" in compile_expression(text).test_data.__qualname__


@pytest.mark.parametrize("value", [1, "true", None, [], 1.0])
def test_predicate_must_be_bool(value: object) -> None:
    """A predicate that is no bool is an error that names the element, never false."""
    expression = compile_expression("data.x")

    with pytest.raises(DataError, match=r"^A -> B: `data.x` is .*, not a bool in `data.x`$") as caught:
        expression.test({"data": {"x": value}}, "A -> B")
    assert ("A -> B", "data.x", value) == (caught.value.element, caught.value.expression, caught.value.value)


def test_predicate() -> None:
    """`test` gives the bool of a predicate."""
    expression = compile_expression("data.x > 1")

    assert expression.test({"data": {"x": 2}}, "A -> B") is True
    assert expression.test({"data": {"x": 1}}) is False


def test_element_of_evaluate() -> None:
    """`evaluate` names the element in its error."""
    with pytest.raises(DataError, match=r"^task t: `data` has no member `x` in `data.x`$"):
        compile_expression("data.x").evaluate({"data": {}}, "task t")


def test_name_element() -> None:
    """An error can be given the element later, once."""
    error = error_of("data.x", {})

    assert error is name_element(error, "")
    assert "" == error.element
    assert error is name_element(error, "A -> B")
    assert "A -> B: `data` has no member `x` in `data.x`" == str(name_element(error, "another"))
    assert "A -> B" == error.element


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", set()), ("data.amount > 1", {"amount"}), ("data.a.b.c", {"a"}), ("data['a'] + data.b", {"a", "b"}),
        ("has(data.a) && data.b", {"a", "b"}),
        ("'a' in data", {"a"}), ("data[data.key]", {"*", "key"}), ("data[1]", {"*"}), ("size(data)", {"*"}),
        ("data == {}", {"*"}), ("data.x in data", {"*", "x"}), ("item.a", set()),
        ("item.a == data.b", {"b"}), ("[data.a, {'k': data.b}, -data.c, !data.d]", {"a", "b", "c", "d"}),
        ("data.a ? data.b : data.c", {"a", "b", "c"}),
        ("data.s.contains(data.t)", {"s", "t"}), ("data.l[data.i].x", {"l", "i"}), ("has(data.a.b)", {"a"}),
        ("data", {"*"}),
    ],
)  # fmt: skip
def test_references(text: str, expected: set[str]) -> None:
    """The members of data that an expression reads are known."""
    assert expected == references(compile_expression(text, variables=("data", "item")))


# --- The module ------------------------------------------------------------------------------------------------------


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The full dialect without its library says how to install it."""
    monkeypatch.setitem(sys.modules, "cel_expr_python", None)
    monkeypatch.setitem(sys.modules, "cel_expr_python.cel", None)

    with pytest.raises(MissingExtra, match=r"knhk\[cel\]"):
        compile_expression("data.x", dialect="full")


@pytest.mark.parametrize("path", sorted(Path(knhk.expr.__file__).parent.glob("*expr*.py")), ids=lambda path: path.name)
def test_pure(path: Path) -> None:
    """The files of this module import no clock, randomness or I/O; regular expressions only in the lexer's file."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    allowed = {"__future__", "attrs", "collections", "importlib", "knhk", "math", "operator", "typing"}

    assert imported <= (allowed | {"re"} if path.name == "_expr_syntax.py" else allowed)
