"""
The tree of an expression to Python closures.

There is one closure for one node; it is made once, takes a scope and returns a value.

The scope is the case data themselves where an expression uses no variable but `data` (nearly all do: a lookup less),
and else the mapping of all variables. What holds for every closure:

* It returns a value of case data or raises `DataError`; it changes nothing.
* No operand is evaluated twice, also not after an error: nested logic would else cost 2**depth.
* **Specialised shapes are shortcuts, not semantics.** A shortcut does the expected case by itself (the member is there,
  the type is the literal's) and hands *values* on to the general operation of `knhk._expr_values` for everything else.

PERF: a call of a closure costs 40 to 50 ns, so the shapes below save calls: `member OP literal` is one closure instead
of three. `type(x) in (a, b)` compares identities and is the cheapest test that tells a bool from an int.

Strictly private: `knhk.expr` is the way in.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, assert_never

from knhk import _expr_values as values
from knhk._expr_syntax import (
    Binary,
    Call,
    Choice,
    Constant,
    Element,
    Has,
    ListDisplay,
    Logic,
    MapDisplay,
    Member,
    Node,
    Unary,
    Variable,
)
from knhk._expr_values import Fault, kind_of
from knhk.errors import DataError

Closure: TypeAlias = Callable[[Any], Any]
Predicate: TypeAlias = Callable[[Any], bool]
_Test: TypeAlias = Callable[[Any, Any], bool]
# Makes the error for a member that is not there: from the container met, and how far down the path it is.
_Lacks: TypeAlias = Callable[[object, int], DataError]

_TESTS: Final[Mapping[str, _Test]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_FLIPPED: Final[Mapping[str, str]] = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_SAME_TYPE: Final = (int, float, str, bool)
_SIZED: Final = (list, str, dict)
_ARITHMETIC: Final[Mapping[str, Callable[[Any, Any, Fault], object]]] = {
    "+": values.add, "-": values.subtract, "*": values.multiply, "/": values.divide, "%": values.modulo,
}  # fmt: skip
_UNARY_CALLS: Final[Mapping[str, Callable[[Any, Fault], object]]] = {
    "int": values.to_int, "double": values.to_double, "string": values.to_string,
    "bool": values.to_bool,
}  # fmt: skip
_BINARY_CALLS: Final[Mapping[str, Callable[[Any, Any, Fault], object]]] = {
    "startsWith": values.starts_with, "endsWith": values.ends_with, "contains": values.contains_text,
}  # fmt: skip
_BOOLEAN_CALLS: Final = frozenset(("bool", "startsWith", "endsWith", "contains"))
# Below this an int and a double compare alike whether or not the int is made a double first.
_EXACT: Final = 2**53
_QUOTE: Final = 60


def fault_of(text: str) -> Fault:
    """Return what makes the errors of an expression."""

    def fault(message: str, value: object) -> DataError:
        return DataError(message, expression=text, value=value)

    return fault


def compile_tree(node: Node, text: str, *, data_only: bool) -> tuple[Closure, Predicate]:
    """
    Return the closure that evaluates the tree, and the one that also insists on a bool.

    Args:
        node: the root.
        text: the expression, for messages.
        data_only: whether the scope is the case data, not the mapping of variables.
    """
    compiler = _Compiler(text, data_only=data_only)
    return compiler.build(node), compiler.predicate(node)


def data_references(node: Node) -> frozenset[str]:
    """Return the members of `data` that the tree reads; "*" stands for any of them."""
    found: set[str] = set()
    stack = [node]
    while stack:
        match stack.pop():
            case Variable(name=name):
                if name == "data":
                    found.add("*")
            case Member(operand=Variable(name="data"), name=name) | Has(operand=Variable(name="data"), name=name):
                found.add(name)
            case Element(operand=Variable(name="data"), key=Constant(value=str(name))):
                found.add(name)
            case Binary(operator="in", left=Constant(value=str(name)), right=Variable(name="data")):
                found.add(name)
            case other:
                stack.extend(_children(other))
    return frozenset(found)


def variables_of(node: Node) -> frozenset[str]:
    """Return the variables that the tree names."""
    found: set[str] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        if isinstance(node, Variable):
            found.add(node.name)
        stack.extend(_children(node))
    return frozenset(found)


def _children(node: Node) -> tuple[Node, ...]:
    match node:
        case Constant() | Variable():
            return ()
        case Member() | Has() | Unary():
            return (node.operand,)
        case Element():
            return (node.operand, node.key)
        case Binary():
            return (node.left, node.right)
        case Logic():
            return node.operands
        case Choice():
            return (node.condition, node.yes, node.no)
        case Call():
            return node.arguments
        case ListDisplay():
            return node.items
        case MapDisplay():
            return tuple(side for entry in node.entries for side in entry)
        case _:  # pragma: no cover
            assert_never(node)


def _always_bool(node: Node) -> bool:
    """Return whether the node's closure gives a bool or raises, by its shape alone."""
    match node:
        case Has() | Logic() | Unary(operator="!") | Constant(value=bool()):
            return True
        case Binary(operator=symbol):
            return symbol in _TESTS or symbol == "in"
        case Call(function=function):
            return function in _BOOLEAN_CALLS
        case Choice(yes=yes, no=no):
            return _always_bool(yes) and _always_bool(no)
        case _:
            return False


class _Compiler:
    """Builds closures; a method for each kind of node."""

    __slots__ = ("_data_only", "_fault", "_text")

    def __init__(self, text: str, *, data_only: bool) -> None:
        self._text = text
        self._data_only = data_only
        self._fault = fault_of(text)

    def build(self, node: Node) -> Closure:
        """Return the closure of a node."""
        match node:
            case Constant():
                return _constant(node.value)
            case Variable():
                return self._variable(node)
            case Member():
                return self._member(node)
            case Element():
                return self._element(node)
            case Has():
                return self._has(node)
            case Unary():
                return self._unary(node)
            case Binary():
                return self._binary(node)
            case Logic():
                return self._logic(node)
            case Choice():
                return _choice(self.predicate(node.condition), self.build(node.yes), self.build(node.no))
            case Call():
                return self._call(node)
            case ListDisplay():
                return _list(tuple(map(self.build, node.items)))
            case MapDisplay():
                return _map(tuple((self.build(key), self.build(value)) for key, value in node.entries), self._fault)
            case _:  # pragma: no cover
                assert_never(node)

    def predicate(self, node: Node) -> Predicate:
        """Return the closure of a node that gives a bool or raises."""
        closure = self.build(node)
        return closure if _always_bool(node) else _insist(closure, self._quote(node), self._fault)

    def _quote(self, node: Node) -> str:
        """Return the node's own text for a message."""
        text = " ".join(self._text[node.start : node.end].split())
        return f"`{text}`" if len(text) <= _QUOTE else f"`{text[:_QUOTE]}...`"

    # Reading data.

    def _steps(self, node: Node) -> tuple[tuple[str, ...], _Lacks] | None:
        """Return the keys from the scope to what a path reads, with the maker of its errors; None if it is no path."""
        path = _path(node)
        if path is None or (self._data_only and len(path) == 1):
            return None
        if self._data_only:
            path = path[1:]
        places = tuple("" if isinstance(step, Variable) else self._quote(step.operand) for step in path)
        keys = tuple(step.name if isinstance(step, Variable | Member) else str(_text_key(step)) for step in path)
        fault = self._fault

        def lacks(container: object, level: int) -> DataError:
            if not places[level]:
                return fault(f"the variable `{keys[level]}` is not given", container)
            return _no_member(places[level], keys[level], container, fault)

        return keys, lacks

    def _variable(self, node: Variable) -> Closure:
        steps = self._steps(node)
        return _whole_scope if steps is None else _read(*steps)

    def _member(self, node: Member) -> Closure:
        steps = self._steps(node)
        if steps is not None:
            return _read(*steps)
        return _member_of(self.build(node.operand), node.name, self._quote(node.operand), self._fault)

    def _element(self, node: Element) -> Closure:
        steps = self._steps(node)
        if steps is not None:
            return _read(*steps)
        return _with_both(self.build(node.operand), self.build(node.key), values.element, self._fault)

    def _has(self, node: Has) -> Predicate:
        return _has(self.build(node.operand), node.name, self._quote(node.operand), self._fault)

    # Operators.

    def _unary(self, node: Unary) -> Closure:
        if node.operator == "!":
            return _not(self.predicate(node.operand))
        return _with_one(self.build(node.operand), values.negate, self._fault)

    def _binary(self, node: Binary) -> Closure:
        symbol, left, right = node.operator, node.left, node.right
        if symbol == "in":
            return self._membership(left, right)
        if symbol in _ARITHMETIC:
            return _with_both(self.build(left), self.build(right), _ARITHMETIC[symbol], self._fault)
        if isinstance(left, Constant):
            symbol, left, right = _FLIPPED[symbol], right, left
        compare = self._comparison(symbol)
        if not isinstance(right, Constant):
            return _compare(self.build(left), self.build(right), _TESTS[symbol], compare)
        # Null has no order in CEL, nor has Python's None: let the general comparison say so.
        kinds = () if right.value is None and symbol not in ("==", "!=") else _kinds_like(right.value)
        steps = self._steps(left)
        if steps is not None and len(steps[0]) == 1:
            return _compare_member(steps[0][0], right.value, kinds, _TESTS[symbol], compare, steps[1])
        return _compare_literal(self.build(left), right.value, kinds, _TESTS[symbol], compare)

    def _comparison(self, symbol: str) -> _Test:
        """Return the comparison that is right for any two values."""
        fault = self._fault
        if symbol == "==":
            return lambda left, right: values.equal(left, right, fault)
        if symbol == "!=":
            return lambda left, right: not values.equal(left, right, fault)
        test = _TESTS[symbol]
        return lambda left, right: values.ordered(test, left, right, fault)

    def _membership(self, left: Node, right: Node) -> Predicate:
        if isinstance(right, ListDisplay) and all(isinstance(item, Constant) for item in right.items):
            literals = [item.value for item in right.items if isinstance(item, Constant)]
            return _in_literals(self.build(left), literals, self._fault)
        return _with_both(self.build(left), self.build(right), values.contains, self._fault)

    def _logic(self, node: Logic) -> Predicate:
        operands = tuple(map(self.predicate, node.operands))
        if len(operands) > 2:
            return _chain(operands, absorbing=node.operator == "||")
        left, right = operands
        if node.operator == "||":
            return _either(left, right)
        first = node.operands[0]
        if isinstance(first, Has) and isinstance(first.operand, Variable) and self._data_only:
            return _guarded(first.name, left, right)
        return _both(left, right)

    def _call(self, node: Call) -> Closure:
        arguments = tuple(map(self.build, node.arguments))
        if node.function == "size":
            return _size(arguments[0], self._fault)
        if node.function in _UNARY_CALLS:
            return _with_one(arguments[0], _UNARY_CALLS[node.function], self._fault)
        return _with_both(arguments[0], arguments[1], _BINARY_CALLS[node.function], self._fault)


def _path(node: Node) -> list[Member | Element | Variable] | None:
    """Return the nodes from a variable down to this one where all keys are known now, the variable first."""
    path: list[Member | Element | Variable] = []
    while not isinstance(node, Variable):
        if not (isinstance(node, Member) or (isinstance(node, Element) and _text_key(node) is not None)):
            return None
        path.append(node)
        node = node.operand
    path.append(node)
    path.reverse()
    return path


def _text_key(node: Element) -> str | None:
    key = node.key
    return key.value if isinstance(key, Constant) and isinstance(key.value, str) else None


def _no_member(place: str, name: str, container: object, fault: Fault) -> DataError:
    if type(container) is dict:
        return fault(f"{place} has no member `{name}`", container)
    return fault(f"{place} is {kind_of(container)} and so has no member `{name}`", container)


def _kinds_like(literal: object) -> tuple[type, ...]:
    """Return the types of values that Python compares with the literal as CEL does."""
    if type(literal) in (int, float) and abs(literal) < _EXACT:  # type: ignore[arg-type]  # a number, says the test
        return (int, float)
    return (type(literal),)


# --- Closures: reading
# -----------------------------------------------------------------------------------------------------


def _constant(value: object) -> Closure:
    return lambda _scope: value


def _whole_scope(scope: Any) -> Any:
    return scope


def _read(keys: tuple[str, ...], lacks: _Lacks) -> Closure:
    """Read a path of one, two or more keys."""
    if len(keys) == 1:
        return _read_one(keys[0], lacks)
    if len(keys) == 2:
        return _read_two(keys[0], keys[1], lacks)

    def read(scope: Any) -> Any:
        level = 0
        try:
            for key in keys:
                scope = scope[key]
                level += 1
        except (KeyError, TypeError):
            raise lacks(scope, level) from None
        return scope

    return read


def _read_one(key: str, lacks: _Lacks) -> Closure:
    def read_one(scope: Any) -> Any:
        try:
            return scope[key]
        except (KeyError, TypeError):
            raise lacks(scope, 0) from None

    return read_one


def _read_two(first: str, second: str, lacks: _Lacks) -> Closure:
    def read_two(scope: Any) -> Any:
        try:
            inner = scope[first]
        except (KeyError, TypeError):
            raise lacks(scope, 0) from None
        try:
            return inner[second]
        except (KeyError, TypeError):
            raise lacks(inner, 1) from None

    return read_two


def _member_of(operand: Closure, name: str, place: str, fault: Fault) -> Closure:
    def member_of(scope: Any) -> Any:
        container = operand(scope)
        if type(container) is dict and name in container:
            return container[name]
        raise _no_member(place, name, container, fault)

    return member_of


def _has(operand: Closure, name: str, place: str, fault: Fault) -> Predicate:
    def has(scope: Any) -> bool:
        container = operand(scope)
        if type(container) is dict:
            return name in container
        raise _no_member(place, name, container, fault)

    return has


def _list(items: tuple[Closure, ...]) -> Closure:
    return lambda scope: [item(scope) for item in items]


def _map(entries: tuple[tuple[Closure, Closure], ...], fault: Fault) -> Closure:
    def make_map(scope: Any) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_of, value_of in entries:
            key = key_of(scope)
            if type(key) is not str:
                raise fault(f"the keys of a map are strings here, as in JSON, not {kind_of(key)}", key)
            if key in result:
                raise fault("a map has this key twice", key)
            result[key] = value_of(scope)
        return result

    return make_map


# --- Closures: operators
# ---------------------------------------------------------------------------------------------------


def _with_one(operand: Closure, function: Callable[[Any, Fault], object], fault: Fault) -> Closure:
    return lambda scope: function(operand(scope), fault)


def _with_both(left: Closure, right: Closure, function: Callable[[Any, Any, Fault], Any], fault: Fault) -> Closure:
    return lambda scope: function(left(scope), right(scope), fault)


def _size(operand: Closure, fault: Fault) -> Closure:
    def size(scope: Any) -> Any:
        value = operand(scope)
        if type(value) in _SIZED:
            return len(value)
        raise fault(f"`size` does not take {kind_of(value)}", value)

    return size


def _not(operand: Predicate) -> Predicate:
    return lambda scope: not operand(scope)


def _insist(operand: Closure, place: str, fault: Fault) -> Predicate:
    def insist(scope: Any) -> bool:
        value = operand(scope)
        if value is True or value is False:
            return value
        raise fault(f"{place} is {kind_of(value)}, not a bool", value)

    return insist


def _choice(condition: Predicate, yes: Closure, no: Closure) -> Closure:
    return lambda scope: yes(scope) if condition(scope) else no(scope)


def _compare(left: Closure, right: Closure, test: _Test, compare: _Test) -> Predicate:
    def compare_values(scope: Any) -> bool:
        value = left(scope)
        other = right(scope)
        kind = type(value)
        if kind is type(other) and kind in _SAME_TYPE:
            return test(value, other)
        return compare(value, other)

    return compare_values


def _compare_literal(left: Closure, literal: object, kinds: tuple[type, ...], test: _Test, compare: _Test) -> Predicate:
    def compare_literal(scope: Any) -> bool:
        value = left(scope)
        if type(value) in kinds:
            return test(value, literal)
        return compare(value, literal)

    return compare_literal


def _compare_member(
    key: str, literal: object, kinds: tuple[type, ...], test: _Test, compare: _Test, lacks: _Lacks
) -> Predicate:
    def compare_member(scope: Any) -> bool:
        try:
            value = scope[key]
        except (KeyError, TypeError):
            raise lacks(scope, 0) from None
        if type(value) in kinds:
            return test(value, literal)
        return compare(value, literal)

    return compare_member


def _in_literals(left: Closure, literals: list[Any], fault: Fault) -> Predicate:
    """Search a list of literals: in a set where they are all strings, or all small numbers."""
    kinds = {_kinds_like(literal) for literal in literals}
    if kinds not in ({(str,)}, {(int, float)}):
        return lambda scope: values.contains(left(scope), literals, fault)
    known = frozenset(literals)
    (alike,) = kinds

    def in_literals(scope: Any) -> bool:
        value = left(scope)
        if type(value) in alike:
            return value in known
        return values.contains(value, literals, fault)

    return in_literals


# --- Closures: logic
# ------------------------------------------------------------------------------------------------------- CEL's && and
# || are commutative in their errors: an operand that decides the outcome wins over any error, on either side. The
# operands here are predicates: a value that is no bool has become an error already.


def _decided(operands: Iterable[Predicate], scope: Any, *, absorbing: bool) -> bool:
    """Return whether one of the operands decides the outcome, errors aside."""
    for operand in operands:
        try:
            if operand(scope) is absorbing:
                return True
        except DataError:
            continue
    return False


def _both(left: Predicate, right: Predicate) -> Predicate:
    def both(scope: Any) -> bool:
        try:
            if not left(scope):
                return False
        except DataError:
            if _decided((right,), scope, absorbing=False):
                return False
            raise
        return right(scope)

    return both


def _either(left: Predicate, right: Predicate) -> Predicate:
    def either(scope: Any) -> bool:
        try:
            if left(scope):
                return True
        except DataError:
            if _decided((right,), scope, absorbing=True):
                return True
            raise
        return right(scope)

    return either


def _guarded(name: str, left: Predicate, right: Predicate) -> Predicate:
    """``has(data.name) && right``: the guard cannot fail on a map, so no error needs to be caught."""
    general = _both(left, right)

    def guarded(scope: Any) -> bool:
        if type(scope) is dict:
            return name in scope and right(scope)
        return general(scope)

    return guarded


def _chain(operands: tuple[Predicate, ...], *, absorbing: bool) -> Predicate:
    def chain(scope: Any) -> bool:
        rest = iter(operands)
        try:
            for operand in rest:
                if operand(scope) is absorbing:
                    return absorbing
        except DataError:
            if _decided(rest, scope, absorbing=absorbing):
                return absorbing
            raise
        return not absorbing

    return chain
