"""
The whole of CEL through the optional library `cel-expr-python` (Google's C++ implementation); extra ``knhk[cel]``.

TRAP: the library does not raise when an evaluation fails (mostly; a duplicate key of a map does). It returns a value of
type ERROR whose Python value is the message: a non-empty string, that is, true. So the *type* is looked at, always and
first.

Strictly private: `knhk.expr` is the way in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any

from knhk._expr_compile import Closure, Predicate, fault_of
from knhk._expr_syntax import problem_at
from knhk._expr_values import Fault, kind_of
from knhk.errors import DataError, MissingExtra, ParseError, Problem


def compile_full(text: str, variables: Collection[str]) -> tuple[Closure, Predicate]:
    """
    Return the closure that evaluates the expression over the mapping of variables, and the one that insists on a bool.

    Args:
        text: the expression.
        variables: the names that it may use, each of any type.

    Raises:
        MissingExtra: the library is not installed.
        ParseError: the library refuses the text; its type checker is at work, so what cannot succeed is refused too.
    """
    try:
        cel: Any = import_module("cel_expr_python.cel")
    except ImportError as error:
        raise MissingExtra("cel", 'an expression of dialect="full"') from error

    environment = cel.NewEnv(variables=dict.fromkeys(variables, cel.Type.DYN))
    try:
        program = environment.compile(text)
    except Exception as error:  # RuntimeError for most, TypeError for a lone surrogate
        raise ParseError(_problems(text, str(error))) from error
    fault = fault_of(text)
    failed = cel.Type.ERROR

    def evaluate(scope: Mapping[str, object]) -> Any:
        try:
            result = program.eval(data=dict(scope))
            kind = result.type()
            value = result.value() if kind == failed else result.plain_value()
        except Exception as error:
            raise fault(_first_line(str(error)), scope) from error
        if kind == failed:
            raise fault(_first_line(str(value)), scope)
        return _as_json(value, fault)

    def test(scope: Mapping[str, object]) -> bool:
        value = evaluate(scope)
        if value is True or value is False:
            return value
        raise fault(f"the expression is {kind_of(value)}, not a bool", value)

    return evaluate, test


def _first_line(message: str) -> str:
    return message.partition("\n")[0]


def _as_json(value: Any, fault: Fault) -> Any:
    """Return the value if it can be case data."""
    stack = [value]
    while stack:
        part = stack.pop()
        if type(part) is list:
            stack.extend(part)
        elif type(part) is dict:
            stack.extend(part.values())
            for key in part:
                if type(key) is not str:
                    raise _not_json(key, "a map with a key that is ", fault)
        elif part is not None and type(part) not in (bool, int, float, str):
            raise _not_json(part, "", fault)
    return value


def _not_json(part: object, prefix: str, fault: Fault) -> DataError:
    return fault(f"the result is or holds {prefix}{kind_of(part)}: convert it, with string() for one", part)


def _problems(text: str, message: str) -> list[Problem]:
    """Return the library's findings, each ``ERROR: <input>:LINE:COLUMN: what``, in KNHK's form."""
    problems: list[Problem] = []
    for finding in message.split("ERROR: <input>:")[1:]:
        line, _, rest = finding.partition(":")
        column, _, what = rest.partition(": ")
        what = _first_line(what).removesuffix(" [INVALID_ARGUMENT]")
        lines = text.split("\n")
        # A finding without a place has the line number 2**32 - 1.
        row = int(line) - 1 if int(line) <= len(lines) else 0
        offset = sum(len(earlier) + 1 for earlier in lines[:row]) + max(0, int(column) - 1)
        problems.append(problem_at(text, min(offset, len(text)), what))
    return problems or [problem_at(text, 0, _first_line(message))]
