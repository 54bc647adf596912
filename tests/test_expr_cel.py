"""
The subset of CEL held equal to Google's implementation (`cel-expr-python`), by tables and by random expressions.

Equal means: the same value of the same type, or both an error, be it when compiling or when evaluating. The library
runs unchecked here, since the subset checks types when evaluating; where its type checker lets an expression pass, the
checked program must agree too. What is known to differ is in the docstring of `knhk.expr` and kept out of the
strategies, each time with a comment that says so.
"""

from __future__ import annotations

import math
import os
from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from knhk.errors import DataError, ParseError
from knhk.expr import compile_expression, references

try:
    cel: Any = import_module("cel_expr_python.cel")
except ImportError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("cel-expr-python (extra knhk[cel]) is not installed", allow_module_level=True)

ERROR = ("error",)
ENVIRONMENT = cel.NewEnv(variables={"data": cel.Type.DYN, "item": cel.Type.DYN, "index": cel.Type.DYN})
VARIABLES = ("data", "item", "index")

# --- The two sides ---------------------------------------------------------------------------------------------------


def canonical(value: object) -> object:
    """Return what can be compared: True is not 1, 1 is not 1.0, NaN is itself."""
    if isinstance(value, list):
        return [canonical(item) for item in value]
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items()}
    return (type(value).__name__, repr(value))


def by_library(text: str, variables: dict[str, Any]) -> object:
    """Return what the library makes of it, unchecked."""
    try:
        result = ENVIRONMENT.compile(text, disable_check=True).eval(data=variables)
    except RuntimeError:
        return ERROR
    return ERROR if result.type() == cel.Type.ERROR else canonical(result.plain_value())


def by_knhk(text: str, variables: dict[str, Any], dialect: Any = "subset") -> object:
    """Return what KNHK makes of it."""
    try:
        return canonical(compile_expression(text, variables=VARIABLES, dialect=dialect).evaluate(variables))
    except (ParseError, DataError):
        return ERROR


def by_checked_library(text: str, variables: dict[str, Any]) -> object:
    """Return what the full dialect makes of it, None where its type checker refuses the text."""
    try:
        expression = compile_expression(text, variables=VARIABLES, dialect="full")
    except ParseError:
        return None
    try:
        return canonical(expression.evaluate(variables))
    except DataError:
        return ERROR


# --- Tables ----------------------------------------------------------------------------------------------------------

DATA = {
    "i": 5, "j": -7, "zero": 0, "max": 2**63 - 1, "min": -(2**63), "odd": 2**53 + 1,
    "f": 1.5, "whole": 3.0, "big": 1e300, "nan": math.nan, "inf": math.inf, "even": float(2**53),
    "s": "EU", "t": "", "b": True, "c": False, "n": None,
    "l": [1, 2.0, True, None, "a", [1], {"k": 1}], "m": {"a": 1, "b": {"c": [10, 20]}, "for": 3, "in": 4},
    "e": [], "o": {},
}  # fmt: skip

EXPRESSIONS = [
    # literals
    "1", "-1", "- 1", "-\n1", "007", "0x1F", "-0x10", "0x7fffffffffffffff", "-0x8000000000000000", "0x8000000000000000",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
    "--9223372036854775808",
    "---9223372036854775808", "--5", "---5", "-(-5)", "1.5", "-1.5", ".5", "-.5", "5.", "1e3", "1E-3", "1e400",
    "-1e400", "1e",
    "0x", "0XfF", "1_000", "1.5f", "1a", "true", "false", "null", "[]", "[1, 2.0, 'a', [null]]", "[1,]", "{}",
    "{'a': 1,}",
    "{'a': {'b': [1]}}", "{data.s: 1}", "[1 2]", "{1}", "{'a'}",
    # strings
    "'a'", '"a"', "''", '""', "'\"'", "\"'\"", r"'\a\b\f\n\r\t\v\\\?\"\'\`'",
    r"'\x41\X41\u00e9\U0001F600\101\377\000'", r"'\u12'",
    r"'\ud800'", r"'\U00110000'", r"'\400'", r"'\1'", r"'\z'", r"'\/'", r"'\x4'", r"r'a\n'", r"R'a'", r"r'a\''",
    r"r'\\'", r"r'a\'",
    "'''a'b'''", '"""a"b\nc"""', '"""a\r\nb\rc"""', 'r"""a\r\nb"""', '""""a"""', "'''a''''", '"""a\\"""',
    '"""a\\""""', '""""""',
    "'a\nb'", "'a\rb'", "'a", "'a\tb'", "'a' 'b'", "'é' + '\u2028'", "size('😀')", "'\x00'",
    # blanks
    "", " ", "//", "1 // one", "// one\n1", "//x\r1+\n1", "\f1", "1\r\n+1", "1\v+1", "\u00a01", "\ufeff1", "/*a*/1",
    # members and elements
    "data.i", "data .i", "data. i", "data\n.i", "data.m.b.c[1]", 'data["i"]', 'data["m"]["b"].c[0]', "data.zz",
    "data.zz.y", "data.i.x",
    "data.n.x", "data.s.x", "data.l.x", "data.m.for", "data.m.in", 'data.m["in"]', "data.true", "data.null",
    "data.l[0]", "data.l[1.0]",
    "data.l[1.5]", "data.l[true]", "data.l[-1]", "data.l[7]", "data.l[data.nan]", "data.l[data.inf]", "data.l['a']",
    "data.l[null]",
    "data.m[1]", "data.m[1.0]", "data.m[null]", "data.m[data.l]", "data.s[0]", "data.i[0]", "data.n[0]",
    "data['l'][data.whole]",
    "{'a': 1}.a", "{'a': 1}['b']", "[[1, 2], [3]][0][1]", "'abc'[0]", "1.a", "1.0.a", "null.a", "'a'.b", "data.size",
    "-1[0]", "data",
    "data.", "data[", "data[]", "data[1", "data[1,2]", "data.m[data.l[4]]", "data.m[data.s]", "'abc'.size",
    "data.l[6].k",
    # has
    "has(data.m.a)", "has(data.m.zz)", "has(data.zz.a)", "has(data.i.x)", "has(data.l.x)", "has(data.n.x)",
    "has(data.s.x)",
    "has({'a': 1}.a)", "has(data)", "has(data['a'])", "has(1)", "has(data['m'].a)", "has(size(data).b)", "has()",
    "has(data.f())",
    # equality
    "1 == 1.0", "1 != 1.0", "true == 1", "false == 0", "'1' == 1", "null == null", "null == 0", "[1] == [1.0]",
    "[true] == [1]",
    "{'a': 1} == {'a': 1.0}", "{'a': 1} == {'b': 1}", "{'a': 1} == {'a': 1, 'b': 2}", "[1, 2] == [1]", "[] == {}",
    "[[]] == [[]]",
    "data.nan == data.nan", "data.nan != data.nan", "[data.nan] == [data.nan]", "data.l == data.l", "data == data",
    "data.m == data.m",
    "{'a': data.nan} == {'a': data.nan}", "0.0 == -0.0", "data.odd == data.even", "data.odd == 9007199254740992.0",
    "data.even == 9007199254740993", "data.max == 9223372036854775808.0", "1 == 2 == false", "data.b == true",
    "data.i == true",
    "data.n == null", "data.n != null", "data.i == null", "[data.odd] == [data.even]",
    "[1, [2, {'k': 3}]] == [1.0, [2.0, {'k': 3.0}]]",
    # order
    "1 < 2", "1 < 1.5", "1.5 > 1", "'a' < 'b'", "'Z' < 'a'", "'\uffff' < '😀'", "false < true", "true <= false",
    "null < null", "null < 1",
    "data.n >= null", "[1] < [2]", "{} < {}", "'a' < 1", "1 < true", "1 < 2 < 3", "data.nan < 1", "1 >= data.nan",
    "data.nan <= data.nan",
    "data.odd > data.even", "data.odd > 9007199254740992.0", "data.max < 9223372036854775808.0",
    "data.max <= 9223372036854775808.0",
    "data.max < data.big", "data.min >= -9223372036854775809.0", "9007199254740992 < 9007199254740993.0",
    "data.inf > data.max",
    "1000 < data.i", "5 <= data.i", "5.0 >= data.i", "6 > data.f", "'EU' == data.s", "data.odd >= 9007199254740993",
    "data.whole == 3", "data.even == 9007199254740992", "3 != data.whole",
    # logic
    "true && false", "true || false", "false && 1/0 == 1", "1/0 == 1 && false", "1/0 == 1 || true",
    "true || 1/0 == 1", "1/0 == 1 && true",
    "true && 1", "1 && true", "1 && false", "false && 1", "'a' || true", "1 || false", "1 && 2", "null && false",
    "data.zz && false",
    "data.zz || true", "data.zz && true", "data.zz || false", "data.zz && data.yy", "true && true && 1",
    "1/0 == 1 && true && false",
    "1/0 == 1 || false || true", "false || false || 1", "true && (1 || true)", "has(data.i) && data.i == 5",
    "has(data.zz) && data.zz == 5",
    "has(data.i) && data.i", "has(data.i) && 1/0 == 1", "!true", "!1", "!!true", "!!5", "!!!5", "!(!5)", "--'a'",
    "!-5", "-!5", "!data.zz",
    "true ? 1 : 2", "false ? 1/0 : 2", "1 ? 2 : 3", "null ? 1 : 2", "data.zz ? 1 : 2", "true ? 1 : 'a'",
    "true ? false ? 1 : 2 : 3",
    "false ? 1 : true ? 2 : 3", "(true ? false : true) ? 1 : 2", "true || false ? 1 : 2", "1 ? 2", "1 ? : 2", "? 1",
    # arithmetic
    "1 + 2 * 3", "(1 + 2) * 3", "7 - 2 - 1", "8 / 4 / 2", "7 / 2", "-7 / 2", "7 / -2", "-7 / -2", "7 % 2", "-7 % 2",
    "7 % -2", "-7 % -2",
    "1 / 0", "1 % 0", "0 / 0", "data.max + 1", "data.min - 1", "data.max * 2", "data.min / -1", "data.min % -1",
    "-data.min", "data.min * -1",
    "-data.max", "data.max - -1", "1.0 / 0.0", "-1.0 / 0.0", "0.0 / 0.0", "1.0 / -0.0", "data.nan / 0.0", "1.5 % 1.0",
    "1 + 1.0",
    "1.5 * 2", "1.5 - 1", "data.big * data.big", "data.inf - data.inf", "'a' + 'b'", "'a' + 1", "'a' * 3",
    "[1] + [2.0]", "[1] + 1", "[1] - [1]",
    "{} + {}", "null + null", "true + true", "-true", "-'a'", "-data.f", "-data.nan", "-0.0", "2--1", "2 - -1",
    "data.i-1", "data.i -1", "1 -1",
    "6.0 / 4.0", "-(0)", "1 - -9223372036854775808",
    # in
    "1 in [1.0]", "true in [1]", "null in [null]", "'a' in ['a', 'b']", "'c' in ['a', 'b']", "1 in ['a', 'b']",
    "data.i in [1, 5]",
    "data.whole in [1, 3]", "data.b in [1, 3]", "data.f in [1.5, 2]", "data.s in ['EU', 1]", "[1] in [[1.0]]",
    "data.nan in [data.nan]",
    "data.odd in [9007199254740992.0]", "'a' in {'a': 1}", "1 in {'a': 1}", "1.5 in {'a': 1}", "true in {'a': 1}",
    "null in {'a': 1}",
    "[1] in {'a': 1}", "'a' in 'abc'", "1 in 5", "1 in null", "'i' in data", "'zz' in data", "1 in [1] in [true]",
    "1 in []",
    "data.i in []", "null in data.l", "'a' in data.l", "{'k': 1} in data.l",
    # functions
    "size('abc')", "size('')", "size([1, 2])", "size({'a': 1})", "size(data.l)", "size(1)", "size(null)",
    "'abc'.size()", "data.l.size()",
    "data.size()", "1.size()", "size()", "size(1, 2)", "size('a',)", "'a'.startsWith('')", "'abc'.startsWith('ab')",
    "'abc'.endsWith('bc')",
    "'abc'.contains('b')", "'a'.contains(1)", "1.startsWith('a')", "data.s.startsWith('E')", "data.n.endsWith('E')",
    "'a'.contains()",
    "'ab'.contains('b', 'c')", "[1, 2].contains(1)", "'a'.foo()", "foo(1)", "'5'.int()", "1.int()", "int()",
    "int(1, 2)", "data.m.b(1)",
    "int(1)", "int(1.9)", "int(-1.9)", "int(9223372036854774784.0)", "int(9223372036854775807.0)",
    "int(-9223372036854775808.0)",
    "int(data.nan)", "int(data.inf)", "int(true)", "int(false)", "int(null)", "int([])", "int('5')", "int('+5')",
    "int('-5')", "int(' 5 ')",
    r"int('\t\n\v\f\r5')", "int('0x10')", "int('5.0')", "int('')", "int('-')", "int('--5')", "int('+-5')",
    "int('1_000')", "int('٥')",
    "int('²')", "int('00000000000000000000000000000005')", "int('9223372036854775807')", "int('9223372036854775808')",
    "int('-9223372036854775808')", "int('-9223372036854775809')", "int('99999999999999999999')", r"int('\u00a05')",
    r"int('5\x1c')",
    "double(1)", "double(data.max)", "double(1.5)", "double(true)", "double(null)", "double('1')", "double('1.5')",
    "double(' 1 ')", "double('+1')",
    "double('-1')", "double('1e5')", "double('1E5')", "double('1e400')", "double('-1e400')", "double('1e-400')",
    "double('nan')", "double('NaN')",
    "double('inf')", "double('-Infinity')", "double('infinit')", "double('1.')", "double('.5')", "double('.')",
    "double('1_0')", "double('')",
    "double('1f')", "double('1e')", "double('٥')", "double('--1')", r"double('\u00a05')",
    "string('a')", "string(1)", "string(-5)", "string(data.min)", "string(true)", "string(false)", "string(null)",
    "string([])", "string({})",
    *(f"string({number})" for number in (
        "1.0", "1.5", "0.1", "1e5", "999999.0", "1e6", "1234567.0", "12345678.9", "1e15", "1e16", "1e17", "1e21",
        "1e22", "1e23", "1e100", "0.001",
        "0.0001", "0.00001", "2.5e-5", "1e-7", "0.1 + 0.2", "1.0 / 3.0", "-0.0", "-123456.75", "-1234567.75",
        "123456789012345680.0", "5e-324",
        "9007199254740993.0", "1.7976931348623157e308", "1.0 / 0.0", "-1.0 / 0.0", "999999.9999999999", "9.5e-5",
        "100000.5", "data.nan",
    )),
    *(f"bool('{word}')" for word in (
        "true", "false", "t", "f", "T", "F", "1", "0", "True", "False", "TRUE", "FALSE", "tRUE", "yes", "", " true",
    )),
    "bool(true)", "bool(1)", "bool(null)", "bool(1.0)",
    # other variables
    "item.x", "item.x == data.i && index > 0", "index + 1", "has(item.x)", "has(item.zz)", "item", "index in data.l",
    # not the language
    "1 2", "(1", "1)", "()", "1 + + 2", "+1", "1 = 1", "1 === 1", "1 & 1", "1 | 1", "1 ^ 1", "1 <> 2", "1 not in [1]",
    "true and false", "not true",
    "$", "@", "#", "\\", "`a`", "if", "data && package", "in", "a.b(c", "size(data)(1)", "é", "data.é", "data.5",
    "rb'a'",
]  # fmt: skip


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_table(text: str) -> None:
    """An expression of the table has in the subset the outcome that it has in the library."""
    variables = {"data": DATA, "item": {"x": 5}, "index": 1}

    assert by_library(text, variables) == by_knhk(text, variables)


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_table_checked(text: str) -> None:
    """An expression of the table that passes the library's type checker has the same outcome in both dialects."""
    variables = {"data": DATA, "item": {"x": 5}, "index": 1}
    checked = by_checked_library(text, variables)

    assert checked in (None, by_knhk(text, variables))


# --- Random expressions ----------------------------------------------------------------------------------------------

WORDS = ("", "a", "b", "EU", "ab", "1", "-5", "1.5", "true", "é", "😀")
NAMES = ("i", "j", "f", "g", "s", "t", "b", "c", "n", "l", "k", "m", "o", "zz")
# An integer from 2**63 on is a `uint` in the library: outside the subset's values.
INTEGERS = st.one_of(
    st.integers(-3, 12),
    st.sampled_from((2**53, 2**53 + 1, 2**62, 2**63 - 1, -(2**63))),
    st.integers(-(2**63), 2**63 - 1),
)
DOUBLES = st.one_of(
    st.sampled_from((0.0, -0.0, 1.0, 1.5, 5.0, 1e6, 2.0**53, 2.0**63, -(2.0**63), math.inf, math.nan)), st.floats()
)
SCALARS = st.one_of(INTEGERS, DOUBLES, st.sampled_from(WORDS), st.booleans(), st.none())
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip


def member(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what the name promises, sometimes anything: expressions meet wrong types in data, too."""
    return st.one_of(strategy, strategy, strategy, ANYTHING)


MEMBERS: dict[str, st.SearchStrategy[Any]] = {
        "i": member(INTEGERS), "j": member(INTEGERS), "f": member(DOUBLES), "g": member(DOUBLES),
        "s": member(st.sampled_from(WORDS)), "t": member(st.sampled_from(WORDS)), "b": member(st.booleans()),
        "c": member(st.booleans()), "n": member(st.none()), "l": member(st.lists(ANYTHING, max_size=4)),
        "k": member(st.lists(INTEGERS, max_size=4)),
        "m": member(st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=4)),
        "o": member(st.dictionaries(st.sampled_from(NAMES), SCALARS, max_size=4)),
}  # fmt: skip
WHOLE_DATA = st.fixed_dictionaries(MEMBERS)
CASE_DATA = st.one_of(WHOLE_DATA, WHOLE_DATA, st.fixed_dictionaries({}, optional=MEMBERS))


def quoted(word: str) -> str:
    """Return a string's literal."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def double_literal(number: float) -> str:
    """Return a double's literal; infinity has one that overflows, NaN has none."""
    if math.isnan(number):
        return "0.0"
    if math.isinf(number):
        return "1e400" if number > 0 else "-1e400"
    text = repr(number)
    return text if "." in text or "e" in text else text + ".0"


def later(name: str) -> st.SearchStrategy[str]:
    """Return the strategy of this name in this module: expressions are defined by one another."""
    return st.deferred(lambda: globals()[name])


def slip(strategy: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return the strategy with an operand of any type here and there."""
    return st.one_of(*[strategy] * 9, ANY)


def form(template: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return the strategy that puts parts into a template."""
    return st.tuples(*parts).map(lambda values: template.format(*values))


def read(*names: str) -> st.SearchStrategy[str]:
    """Return the strategy that reads a member of the data, either way."""
    return st.sampled_from([f"data.{name}" for name in names] + [f'data["{name}"]' for name in names])


def list_of(parts: list[str]) -> str:
    """Return a list display."""
    return f"[{', '.join(parts)}]"


def map_of(pairs: dict[str, str]) -> str:
    """Return a map display; its keys are distinct string literals, for others are outside the subset."""
    return "{" + ", ".join(f'"{key}": {value}' for key, value in pairs.items()) + "}"


INT, DOUBLE, TEXT, BOOL, LIST, MAP = map(later, ("INT_", "DOUBLE_", "TEXT_", "BOOL_", "LIST_", "MAP_"))
WILD = st.sampled_from(
    ("null", "data", "data.n", "data.zz", "data.m.a", "data.l[0]", "data.o.zz.a", "1 / 0", "item.x", "index")
)
ANY = st.one_of(INT, DOUBLE, TEXT, BOOL, LIST, MAP, WILD)
ORDER = st.sampled_from(("==", "!=", "<", "<=", ">", ">="))
LOGIC = st.sampled_from(("&&", "||"))
INT_LITERAL, DOUBLE_LITERAL = INTEGERS.map(str), DOUBLES.map(double_literal)
TEXT_LITERAL, NAME = st.sampled_from(WORDS).map(quoted), st.sampled_from(NAMES)
INT_ = st.one_of(
    INT_LITERAL,
    read("i", "j"),
    read("i", "j"),
    form("size({0})", st.one_of(TEXT, LIST, MAP)),
    form("({0} {1} {2})", slip(INT), st.sampled_from("+-*/%"), slip(INT)),
    form("-({0})", slip(INT)),
    form("int({0})", ANY),
    form("({0}).size()", slip(st.one_of(TEXT, LIST, MAP))),
    form("data.k[{0}]", slip(INT)),
    form("({0} ? {1} : {2})", slip(BOOL), slip(INT), slip(INT)),
)
DOUBLE_ = st.one_of(
    DOUBLE_LITERAL,
    read("f", "g"),
    read("f", "g"),
    form("({0} {1} {2})", slip(DOUBLE), st.sampled_from("+-*/"), slip(DOUBLE)),
    form("-({0})", slip(DOUBLE)),
    form("double({0})", st.one_of(INT, DOUBLE, TEXT)),
)
TEXT_ = st.one_of(
    TEXT_LITERAL,
    read("s", "t"),
    read("s", "t"),
    form("({0} + {1})", slip(TEXT), slip(TEXT)),
    # No computed double here: the sign of a NaN is the machine's, and only the library prints it.
    form("string({0})", st.one_of(INT, TEXT, BOOL, read("f", "l"), DOUBLE_LITERAL)),
    form("({0} ? {1} : {2})", slip(BOOL), slip(TEXT), slip(TEXT)),
)
LIST_ = st.one_of(
    read("l", "k"),
    st.lists(ANY, max_size=3).map(list_of),
    form("({0} + {1})", slip(LIST), slip(LIST)),
    st.lists(st.one_of(INT_LITERAL, TEXT_LITERAL), max_size=3).map(list_of),
)
MAP_ = st.one_of(read("m", "o"), st.dictionaries(NAME, ANY, max_size=2).map(map_of))
BOOL_ = st.one_of(
    st.sampled_from(("true", "false")),
    read("b", "c"),
    read("b", "c"),
    *(
        form("({0} {1} {2})", left, ORDER, right)
        for left, right in ((INT, INT), (INT, DOUBLE), (DOUBLE, INT), (TEXT, TEXT), (BOOL, BOOL), (ANY, ANY))
    ),
    form("data.{0} {1} {2}", NAME, ORDER, st.one_of(INT_LITERAL, DOUBLE_LITERAL)),
    form("({0} {1} {2})", slip(BOOL), LOGIC, slip(BOOL)),
    form("({0} {1} {2})", slip(BOOL), LOGIC, slip(BOOL)),
    form("({0} && {1} && {2})", slip(BOOL), slip(BOOL), slip(BOOL)),
    form("({0} || {1} || {2})", slip(BOOL), slip(BOOL), slip(BOOL)),
    form("(has(data.{0}) && {1})", NAME, slip(BOOL)),
    form("!({0})", slip(BOOL)),
    form("({0} in {1})", ANY, slip(st.one_of(LIST, LIST, MAP))),
    form("has(data.{0})", NAME),
    form("has({0}.{1})", st.one_of(MAP, read("m", "o", "i")), NAME),
    form("({0}).{1}({2})", slip(TEXT), st.sampled_from(("startsWith", "endsWith", "contains")), slip(TEXT)),
    form("bool({0})", st.one_of(TEXT, BOOL)),
    form("({0} ? {1} : {2})", slip(BOOL), slip(BOOL), slip(BOOL)),
)
EXPRESSION = st.one_of(BOOL, BOOL, BOOL, ANY)

EXAMPLES = int(os.environ.get("KNHK_CEL_EXAMPLES", "2000"))
RANDOM = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@RANDOM
@given(text=EXPRESSION, data=CASE_DATA, item=ANYTHING, index=INTEGERS)
def test_random_expression(text: str, data: dict[str, Any], item: object, index: int) -> None:
    """A random expression on random data has the same outcome in the subset, the library and the checked library."""
    variables = {"data": data, "item": item, "index": index}
    expected = by_library(text, variables)

    assert expected == by_knhk(text, variables)
    assert by_checked_library(text, variables) in (None, expected)


TOKENS = (
    "1", "2.5", "0x1", "'a'", '"b"', "true", "null", "data", "data.i", "data.s", ".", ",", ":", "?", "(", ")", "[",
    "]", "{", "}", "+", "-", "*",
    "/", "%", "!", "==", "!=", "<", "<=", "&&", "||", "in", "has", "size", "int", "(data.m", ".a", "[0]", "['a']",
    ".size()", "i", "if", "r'x'", "//", "\n",
)  # fmt: skip


@RANDOM
@example(["[", ",", "]"])
@given(st.lists(st.sampled_from(TOKENS), max_size=9))
def test_random_words(words: list[str]) -> None:
    """Any sequence of words that the subset takes for an expression is one to the library, with the same outcome."""
    text = " ".join(words)
    try:
        compile_expression(text)
    except ParseError:
        return
    variables = {"data": DATA}

    assert by_library(text, variables) == by_knhk(text, variables)


@RANDOM
@given(
    text=EXPRESSION,
    place=st.floats(0, 1),
    length=st.integers(0, 2),
    inserted=st.text("()[]{}.,:?!-+&|=<>'\"\\ ai10xer\n", max_size=2),
)
def test_damaged_expression(text: str, place: float, length: int, inserted: str) -> None:
    """An expression with some characters lost or added, if the subset still takes it, has the library's outcome."""
    start = int(place * len(text))
    damaged = text[:start] + inserted + text[start + length :]
    try:
        compile_expression(damaged, variables=VARIABLES)
    except ParseError:
        return
    variables = {"data": DATA, "item": {"x": 5}, "index": 1}

    assert by_library(damaged, variables) == by_knhk(damaged, variables)


# --- The full dialect ------------------------------------------------------------------------------------------------


def full(text: str, data: object, variables: tuple[str, ...] = ("data",)) -> object:
    """Evaluate in the full dialect."""
    return compile_expression(text, variables=variables, dialect="full").evaluate({"data": data})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data.l.all(x, x > 0)", True),
        ("data.l.map(x, x * 2)", [2, 4]),
        ("data.s.matches('^E.$')", True),
        ("type(data.s) == string", True),
        ("{'a': [data.l, {'b': null}]}", {"a": [[1, 2], {"b": None}]}),
        ("uint(5)", 5),
        ("string(timestamp('2026-01-01T00:00:00Z') + duration('1h'))", "2026-01-01T01:00:00Z"),
    ],
)
def test_full_value(text: str, expected: object) -> None:
    """The full dialect has macros, regular expressions, types and times."""
    assert expected == full(text, {"l": [1, 2], "s": "EU"})


@pytest.mark.parametrize(
    ("text", "data", "message"),
    [
        ("data.x > 1", {}, 'NOT_FOUND: Key not found in map : "x"'),
        ("data.x / 0", {"x": 1}, "INVALID_ARGUMENT: divide by zero"),
        ("data.x + 1", {"x": 2**63 - 1}, "OUT_OF_RANGE: integer overflow"),
        ("data.x < 'a'", {"x": 1}, "UNKNOWN: No matching overloads found"),
        ("data.x", {"x": 2**64}, "out of range"),
        ("data.x", {"x": "\ud800"}, "not valid"),
        ("{'a': 1, data.x: 2}", {"x": "a"}, "duplicate key in map"),
        ("[timestamp('2026-01-01T00:00:00Z')]", {}, "the result is or holds an object of type datetime, which is not JSON"),
        ("b'a'", {}, "the result is or holds an object of type bytearray, which is not JSON"),
        ("[{1: 2}]", {}, "the result is or holds a map with a key that is an int"),
        ("type(1)", {}, "which is not JSON"),
        (
            "data.l.all(a, data.l.all(b, data.l.all(c, a + b + c >= 0)))",
            {"l": list(range(400))},
            "Iteration budget exceeded",
        ),
    ],
)  # fmt: skip
def test_full_error(text: str, data: object, message: str) -> None:
    """An error value of the library, a string and so true, is a DataError, and so is a result that is no JSON."""
    expression = compile_expression(text, dialect="full")
    for evaluate in (expression.of_data, expression.test_data):
        with pytest.raises(DataError) as caught:
            evaluate(data)  # type: ignore[arg-type]

        assert message in str(caught.value)
        assert text == caught.value.expression


def test_full_predicate() -> None:
    """A predicate of the full dialect gives a bool, or an error that names the element."""
    expression = compile_expression("data.x", dialect="full")

    assert expression.test({"data": {"x": True}}) is True
    assert expression.test_data({"x": False}) is False
    with pytest.raises(DataError, match=r"^A -> B: the expression is a string, not a bool"):
        expression.test({"data": {"x": "true"}}, "A -> B")


def test_full_variables() -> None:
    """The full dialect knows the variables passed, and refuses others with their place."""
    expression = compile_expression("item + index", variables=("data", "item", "index"), dialect="full")

    assert 3 == expression.evaluate({"item": 1, "index": 2, "unused": object()})
    with pytest.raises(ParseError) as caught:
        compile_expression("item +\n  index", dialect="full")
    assert [
        "line 1, column 1: undeclared reference to 'item' (in container '')\n      item +\n      ^",
        "line 2, column 3: undeclared reference to 'index' (in container '')\n        index\n        ^",
    ] == [problem.message for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 == 'a'", "column 3: found no matching overload for '_==_' applied to '(int, string)'"),
        ("1 +", "column 4: Syntax error: mismatched input '<EOF>'"),
        ("1" + "+1" * 40, "column 1: Exceeded max recursion depth of 32 when parsing."),
        ("(" * 2000 + "1" + ")" * 2000, "column 1: CANCELLED: Expression recursion limit exceeded."),
        ("'\ud800'", "column 1: compile(): incompatible function arguments."),
        ("1" * 5000, "column 4097: an expression has at most 4,096 characters"),
    ],
)  # fmt: skip
def test_full_refused(text: str, message: str) -> None:
    """What the library refuses is a ParseError with the place, where it has one."""
    with pytest.raises(ParseError) as caught:
        compile_expression(text, dialect="full")

    assert caught.value.problems[0].message.startswith(message)


def test_full_references() -> None:
    """The members read are known where the text is also of the subset, else it is any member."""
    assert {"a", "b"} == references(compile_expression("data.a > data.b", dialect="full"))
    assert {"*"} == references(compile_expression("data.a.all(x, x > 1)", dialect="full"))


def test_full_identity() -> None:
    """The same text in another dialect is another expression."""
    assert compile_expression("data.a", dialect="full") != compile_expression("data.a")
