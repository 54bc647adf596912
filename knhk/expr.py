"""
Predicates and mappings over case data, in CEL (the Common Expression Language, cel.dev).

A flow's predicate is `data.amount > 1000`; a mapping is `{"total": data.net + data.tax}`. `compile_expression` makes an
`Expression` once, at registration; evaluating it is then a call of Python closures and costs about what the same
expression costs in Python. What follows is the definition of the language; the tests hold it equal to Google's
implementation.


The subset
==========

::

    expression = or ["?" or ":" expression]
    or         = and {"||" and}
    and        = relation {"&&" relation}
    relation   = sum {("==" | "!=" | "<" | "<=" | ">" | ">=" | "in") sum}
    sum        = product {("+" | "-") product}
    product    = unary {("*" | "/" | "%") unary}
    unary      = ["!" {"!"} | "-" {"-"}] postfix
    postfix    = primary {"." NAME | "[" expression "]" | "." METHOD "(" [expression] ")"}
    primary    = literal | VARIABLE | "(" expression ")" | FUNCTION "(" expression ")" | "has" "(" postfix "." NAME ")"
               | "[" [expression {"," expression} [","]] "]"
               | "{" [expression ":" expression {"," expression ":" expression} [","]] "}"
    literal    = INT | DOUBLE | STRING | "true" | "false" | "null"
    FUNCTION   = "size" | "int" | "double" | "string" | "bool"
    METHOD     = "size" | "startsWith" | "endsWith" | "contains"

INT is 64-bit, decimal or `0x` hexadecimal. STRING has single, double or triple quotes, CEL's escapes, and an `r` before
it for none. `// comment` ends with the line. VARIABLE is one of the names passed to `compile_expression`: `data`, the
case's data, always; `item` and `index` inside an instance of a multiple-instance task, `completed` and `created` in its
`until`.

Values are JSON's, by exact Python type: int, float (CEL's double), str, bool, None (null), list, dict (map) with string
keys.

* Numbers compare across int and double. Other values of different types are unequal, and have no order; a bool is no
  number.
* Arithmetic takes two values of one type: `data.n * 1.5` needs a double in `n`, or `double(data.n) * 1.5`. Integers are
  64-bit, overflow and division by zero are errors, division truncates toward zero, `%` has the sign of its left
  operand. Doubles follow IEEE 754, so `1.0 / 0.0` is infinite. `+` also joins strings and lists.
* `a && b` is false when either is false, even if the other is an error; `a || b` likewise with true. Neither takes
  anything but bools.
* `has(a.b)` is whether the map `a` has the member `b`; it is an error if `a` is no map or is missing itself.
* `in` looks in a list, or among the keys of a map.
* `int()` truncates a double toward zero and reads decimal strings; `double()` reads what Python's `float` reads, except
  for underscores and foreign digits; `string()` takes bools, numbers and strings; `bool()` takes "true", "false" and
  their spellings `t f 1 0 True False TRUE FALSE`.

Everything that goes wrong in an evaluation is a `DataError`: a missing member, a wrong type, an overflow, a predicate
that is no bool. Nothing is silently false. The error's `value` is what the operation met: the container without the
member, the operand of the wrong type, a pair of operands. Messages name types, never values, which keeps case data out
of logs.


What it is not
==============

No macros (`all`, `exists`, `map`, `filter`), regular expressions (`matches`), unsigned integers, bytes, times, types.
These are refused when compiling, with a hint at ``dialect="full"``, which is the whole language through
`cel-expr-python` (extra ``knhk[cel]``), at ten microseconds or more an evaluation, which converts *all* the data each
time.

What the subset leaves out of CEL's data model, or does otherwise than Google's implementation (`cel-expr-python` 0.1.3,
unchecked):

* Types are checked when evaluating. The full dialect also checks while compiling, and refuses `1 == "a"` or
  `true ? 1 : "a"`, which the subset evaluates as the language definition says.
* The keys of a map are strings, as in JSON: a literal of another type is refused when compiling. CEL also has int and
  bool keys.
* A key twice in a map is an error that `&&` can absorb; two equal literals are refused when compiling.
* Data are read as they are met, not converted as a whole beforehand: an unreadable value (a tuple, an integer beyond 64
  bits) is an error only where it is used. An integer of 2**63 and above is no `uint`; it compares as the number it is,
  and arithmetic or a conversion that yields more than 64 bits is an error.
* An int and a double compare as doubles, digits beyond 2**53 lost: this is what Google's does, and CEL's conformance
  tests say.
* Not a number prints as `nan`, never `-nan`; `double()` reads no hexadecimal and no `nan(...)`.
* `startsWith(a, b)` as a function, `[,]`, a leading dot and names in backquotes are refused.


Limits
======

A text has at most `MAX_TEXT` characters and `MAX_DEPTH` levels (a chain of `&&` or of `||` is one level, any other
operator of a chain is one each). No string or list made by `+` is longer than `MAX_LENGTH`, and one `==` looks at no
more than `MAX_PAIRS` pairs. There are no loops, so an evaluation costs at most the length of the text times the size of
the data.

A list or a map in a result may be the very object that is in the data: who changes it copies it before.

This file has no clock, no randomness, no I/O. Expressions are immutable; keep them, for compiling costs a thousand
evaluations.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs

from knhk._expr_cel import compile_full
from knhk._expr_compile import compile_tree, data_references, fault_of, variables_of
from knhk._expr_syntax import MAX_DEPTH, MAX_TEXT, Binary, parse, problem_at
from knhk._expr_values import MAX_LENGTH, MAX_PAIRS
from knhk.errors import DataError, ParseError

__all__ = (
    "MAX_DEPTH",
    "MAX_LENGTH",
    "MAX_PAIRS",
    "MAX_TEXT",
    "Dialect",
    "Expression",
    "compile_expression",
    "equation",
    "name_element",
    "references",
)

Dialect: TypeAlias = Literal["subset", "full"]

_ANY_MEMBER: Final = frozenset(("*",))


@attrs.frozen(eq=False, repr=False)
class Expression:
    """
    A compiled expression.

    Two expressions are the same if text, variables and dialect are.

    Attributes:
        text: what was compiled.
        variables: the names that it may use.
        dialect: "subset" or "full".
        of_data: the hot path of a mapping: takes the case data, returns the value or raises `DataError`. Nothing else
        is checked. test_data: the hot path of a predicate: takes the case data, returns a bool or raises `DataError`.
    """

    text: str
    variables: frozenset[str]
    dialect: Dialect
    of_data: Callable[[dict[str, Any]], Any]
    test_data: Callable[[dict[str, Any]], bool]
    _evaluate: Callable[[Mapping[str, object]], Any]
    _test: Callable[[Mapping[str, object]], bool]
    _references: frozenset[str]

    def evaluate(self, variables: Mapping[str, object], element: str = "") -> object:
        """
        Return the value of the expression.

        Args:
            variables: a value for each variable that the expression uses.
            element: what the expression belongs to, for the error.

        Raises:
            DataError: the expression fails on these values.
        """
        try:
            return self._evaluate(variables)
        except DataError as error:
            name_element(error, element)
            raise

    def test(self, variables: Mapping[str, object], element: str = "") -> bool:
        """
        Return the value of the expression, which must be a bool.

        Args:
            variables: a value for each variable that the expression uses.
            element: what the expression belongs to, for the error.

        Raises:
            DataError: the expression fails on these values, or its value is no bool.
        """
        try:
            return self._test(variables)
        except DataError as error:
            name_element(error, element)
            raise

    def _identity(self) -> tuple[object, ...]:
        return (self.text, self.variables, self.dialect)

    def __eq__(self, other: object) -> bool:
        """Return whether text, variables and dialect are the same."""
        return self._identity() == other._identity() if isinstance(other, Expression) else NotImplemented

    def __hash__(self) -> int:
        """Return what goes with equality."""
        return hash(self._identity())

    def __repr__(self) -> str:
        """Return the text, in angle brackets."""
        return f"<Expression {self.text!r}>"


def compile_expression(text: str, *, variables: Collection[str] = ("data",), dialect: Dialect = "subset") -> Expression:
    """
    Compile an expression.

    Args:
        text: the expression.
        variables: the names that it may use.
        dialect: "subset", as defined above, or "full", all of CEL through an optional library.

    Raises:
        ParseError: the text is no expression of the dialect; its problems show the places.
        MissingExtra: the full dialect is asked for, and its library is not installed.
    """
    if len(text) > MAX_TEXT:
        message = f"an expression has at most {MAX_TEXT:,} characters, not {len(text):,}"
        raise ParseError([problem_at(text, MAX_TEXT, message)])
    names = frozenset(variables)
    if dialect == "full":
        return _full(text, names)
    node = parse(text, names)
    if variables_of(node) <= {"data"}:
        of_data, test_data = compile_tree(node, text, data_only=True)
        evaluate, test = _given_data(of_data, text), _given_data(test_data, text)
    else:
        evaluate, test = compile_tree(node, text, data_only=False)
        of_data, test_data = _only_data(evaluate), _only_data(test)
    return Expression(text, names, dialect, of_data, test_data, evaluate, test, data_references(node))


def equation(expression: Expression) -> tuple[Expression, Expression] | None:
    """
    Return both sides of an expression of the subset that is ``left == right``; None for any other.

    Each side is compiled with those variables alone that it names.
    """
    if expression.dialect != "subset":
        return None
    node = parse(expression.text, expression.variables)
    if not isinstance(node, Binary) or node.operator != "==":
        return None
    texts = [expression.text[each.start : each.end] for each in (node.left, node.right)]
    try:
        left, right = (
            compile_expression(text, variables=variables_of(each))
            for text, each in zip(texts, (node.left, node.right), strict=True)
        )
    except ParseError:
        # A side in parentheses begins and ends inside of them.
        return None
    return left, right


def references(expression: Expression) -> frozenset[str]:
    """
    Return the names of the members of `data` that the expression reads.

    "*" is among them where it reads members that cannot be known before: `data[item]`, `size(data)`. An expression of
    the full dialect that is not also one of the subset is not looked into: "*".
    """
    return expression._references


def name_element(error: DataError, element: str) -> DataError:
    """
    Return the error, which now names the element that the expression belongs to.

    For whoever calls `Expression.of_data` or `Expression.test_data`, in the handler of the error: ``name_element(error,
    flow)`` and then ``raise``. An element that is named already stays.
    """
    if element and not error.element:
        error.element = element
        error.args = (f"{element}: {error}",)
    return error


def _full(text: str, names: frozenset[str]) -> Expression:
    evaluate, test = compile_full(text, names)
    try:
        read = data_references(parse(text, names))
    except ParseError:
        read = _ANY_MEMBER
    return Expression(text, names, "full", _only_data(evaluate), _only_data(test), evaluate, test, read)


def _given_data(closure: Callable[[Any], Any], text: str) -> Callable[[Mapping[str, object]], Any]:
    """Return the closure over case data as one over variables."""
    fault = fault_of(text)

    def given_data(variables: Mapping[str, object]) -> Any:
        try:
            data = variables["data"]
        except KeyError:
            raise fault("the variable `data` is not given", variables) from None
        return closure(data)

    return given_data


def _only_data(closure: Callable[[Any], Any]) -> Callable[[dict[str, Any]], Any]:
    """Return the closure over variables as one over case data."""
    return lambda data: closure({"data": data})
