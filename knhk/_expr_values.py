"""
What CEL's operators do with values of case data: equality, order, arithmetic, lookup and conversion.

The values are JSON's, by their exact Python types: ``int float bool str None list dict``. Anything else (a subclass
too) is refused by the operation that meets it. Whoever asks for what cannot be done gets a `DataError` made by the
`Fault` passed in, which knows the text of the expression; messages tell types and never values, so that a log does not
spill case data.

Strictly private: `knhk.expr` is the way in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from knhk._expr_syntax import MAX_INT, MIN_INT
from knhk.errors import DataError

# No string or list that an expression makes is longer.
MAX_LENGTH: Final = 1_000_000
# No comparison of nested values looks at more pairs. Case data without shared parts cannot get there within its own
# limits.
MAX_PAIRS: Final = 1_000_000

Fault: TypeAlias = Callable[[str, object], DataError]

NoneType: Final = type(None)
_SCALARS: Final = (int, float, str, bool, NoneType)
_ORDERED: Final = (int, float, str, bool)
_NAMES: Final[dict[type, str]] = {
    int: "an int", float: "a double", str: "a string", bool: "a bool", NoneType: "null", list: "a list", dict: "a map",
}  # fmt: skip
_SPACES: Final = " \t\n\v\f\r"
_BOOLS: Final = {"true": True, "True": True, "TRUE": True, "t": True, "1": True,
                 "false": False, "False": False, "FALSE": False, "f": False, "0": False}  # fmt: skip


def kind_of(value: object) -> str:
    """Return what a value is, in CEL's words."""
    return _NAMES.get(type(value), f"an object of type {type(value).__name__}, which is not JSON")


def _alike(number: float, other: float) -> tuple[float, float]:
    """
    Return an int and a double as CEL compares them: as doubles.

    NOTE: this loses digits above 2**53, as in Google's library; the language's own conformance tests ask for it. An int
    beyond any double stays exact, which orders it rightly.
    """
    try:
        return float(number), float(other)
    except OverflowError:
        return number, other


# --- Equality and order
# ----------------------------------------------------------------------------------------------------


def equal(left: object, right: object, fault: Fault) -> bool:
    """
    Return whether two values are equal in CEL.

    Numbers are equal across int and double; other values of different types are not equal, and a bool is no number.
    Python's own ``==`` will not do for lists and maps: it takes ``True`` for 1, and an object for equal to itself
    although it is NaN.
    """
    flat = _flat(left, right, fault)
    if flat is not None:
        return flat
    # A stack instead of a recursion: data may be deep.
    pairs: list[tuple[Any, Any]] = [(left, right)]
    count = 0
    while pairs:
        a, b = pairs.pop()
        flat = _flat(a, b, fault)
        if flat is False:
            return False
        if flat is None:
            if len(a) != len(b):
                return False
            count += len(a)
            if count > MAX_PAIRS:
                raise fault(f"a comparison would look at more than {MAX_PAIRS:,} pairs of values", (left, right))
            if type(a) is list:
                pairs.extend(zip(a, b, strict=True))
            elif a.keys() != b.keys():
                return False
            else:
                pairs.extend((value, b[key]) for key, value in a.items())
    return True


def _flat(left: Any, right: Any, fault: Fault) -> bool | None:
    """Return whether two values are equal, or None if that depends on what is in them."""
    kind, other = type(left), type(right)
    if kind is other:
        if kind in _SCALARS:
            return bool(left == right)
        if kind is list or kind is dict:
            return None
    elif (kind is int and other is float) or (kind is float and other is int):
        left, right = _alike(left, right)
        return bool(left == right)
    for value in (left, right):
        if type(value) not in _NAMES:
            raise fault(f"a value is {kind_of(value)}", value)
    return False


def ordered(test: Callable[[Any, Any], bool], left: Any, right: Any, fault: Fault) -> bool:
    """Return the outcome of ``<``, ``<=``, ``>`` or ``>=``: for two numbers, two strings or two bools."""
    kind, other = type(left), type(right)
    if kind is other:
        if kind in _ORDERED:
            return test(left, right)
    elif (kind is int and other is float) or (kind is float and other is int):
        return test(*_alike(left, right))
    raise fault(f"{kind_of(left)} and {kind_of(right)} have no order", (left, right))


def contains(value: Any, container: Any, fault: Fault) -> bool:
    """Return the outcome of ``value in container``."""
    kind = type(value)
    if type(container) is list:
        # PERF: Python's own search is right where its equality is CEL's, and ten times as fast.
        if kind is str or value is None:
            return value in container
        return any(equal(value, item, fault) for item in container)
    if type(container) is not dict:
        raise fault(f"`in` needs a list or a map, not {kind_of(container)}", container)
    if kind is str:
        return value in container
    if kind in (int, float, bool):
        return False
    raise fault(f"{kind_of(value)} cannot be a key of a map", value)


# --- Lookup
# ----------------------------------------------------------------------------------------------------------------


def element(container: Any, key: Any, fault: Fault) -> object:
    """Return ``container[key]``."""
    kind = type(key)
    if type(container) is list:
        if kind is float and key.is_integer():
            key = int(key)
        elif kind is not int:
            raise fault(f"the index of a list is an int, not {kind_of(key)}", key)
        if 0 <= key < len(container):
            return container[key]
        raise fault(f"the index is outside the list of {len(container)}", key)
    if type(container) is not dict:
        raise fault(f"{kind_of(container)} has no elements", container)
    if kind is not str:
        raise fault(f"the keys of a map are strings, not {kind_of(key)}", key)
    if key in container:
        return container[key]
    raise fault("the map has no such key", key)


# --- Arithmetic
# ------------------------------------------------------------------------------------------------------------


def _no_overload(symbol: str, left: object, right: object, fault: Fault) -> DataError:
    hint = ""
    if {type(left), type(right)} == {int, float}:
        hint = "; convert one with double() or int()"
    return fault(f"`{symbol}` does not take {kind_of(left)} and {kind_of(right)}{hint}", (left, right))


def _fits(result: int, operands: object, fault: Fault) -> int:
    if MIN_INT <= result <= MAX_INT:
        return result
    raise fault("the result does not fit in 64 bits", operands)


def add(left: Any, right: Any, fault: Fault) -> object:
    """Return ``left + right``: numbers of one type, strings or lists."""
    kind = type(left)
    if kind is type(right):
        if kind is int:
            result = left + right
            return result if MIN_INT <= result <= MAX_INT else _fits(result, (left, right), fault)
        if kind is float:
            return left + right
        if kind is str or kind is list:
            if len(left) + len(right) > MAX_LENGTH:
                raise fault(f"the result would be longer than {MAX_LENGTH:,}", (left, right))
            return left + right
    raise _no_overload("+", left, right, fault)


def subtract(left: Any, right: Any, fault: Fault) -> object:
    """Return ``left - right``."""
    kind = type(left)
    if kind is type(right):
        if kind is int:
            result = left - right
            return result if MIN_INT <= result <= MAX_INT else _fits(result, (left, right), fault)
        if kind is float:
            return left - right
    raise _no_overload("-", left, right, fault)


def multiply(left: Any, right: Any, fault: Fault) -> object:
    """Return ``left * right``."""
    kind = type(left)
    if kind is type(right):
        if kind is int:
            result = left * right
            return result if MIN_INT <= result <= MAX_INT else _fits(result, (left, right), fault)
        if kind is float:
            return left * right
    raise _no_overload("*", left, right, fault)


def divide(left: Any, right: Any, fault: Fault) -> object:
    """Return ``left / right``: integers truncate toward zero, doubles follow IEEE 754."""
    kind = type(left)
    if kind is type(right):
        if kind is int:
            if right == 0:
                raise fault("division by zero", left)
            quotient = abs(left) // abs(right)
            return _fits(quotient if (left < 0) == (right < 0) else -quotient, (left, right), fault)
        if kind is float:
            if right:
                return left / right
            if not left or math.isnan(left):
                return math.nan
            return math.copysign(math.inf, left) * math.copysign(1.0, right)
    raise _no_overload("/", left, right, fault)


def modulo(left: Any, right: Any, fault: Fault) -> object:
    """Return ``left % right`` of two integers; the sign is the left one's."""
    if type(left) is not int or type(right) is not int:
        raise _no_overload("%", left, right, fault)
    if right == 0:
        raise fault("modulus by zero", left)
    # Only the overflow of the division that belongs to it makes the last case: the remainder itself would be 0.
    _fits(-left if right == -1 else 0, (left, right), fault)
    remainder = abs(left) % abs(right)
    return -remainder if left < 0 else remainder


def negate(value: Any, fault: Fault) -> object:
    """Return ``-value``."""
    if type(value) is int:
        return _fits(-value, value, fault)
    if type(value) is float:
        return -value
    raise fault(f"`-` does not take {kind_of(value)}", value)


# --- Functions
# -------------------------------------------------------------------------------------------------------------


def to_int(value: Any, fault: Fault) -> object:
    """Return ``int(value)``: of a double toward zero, of a string in decimal."""
    kind = type(value)
    if kind is int:
        return value
    if kind is bool:
        return int(value)
    if kind is float:
        # Both ends are excluded, as in the library: the bounds themselves are not safe as doubles.
        if -(2.0**63) < value < 2.0**63:
            return int(value)
        raise fault("the double is outside the 64-bit integers", value)
    if kind is str:
        digits = value.strip(_SPACES)
        sign, digits = (digits[0], digits[1:]) if digits[:1] in ("-", "+") else ("", digits)
        # Not int(): it takes underscores, foreign digits, and any length.
        if digits.isascii() and digits.isdigit() and len(digits.lstrip("0")) <= 19:
            number = int(sign + digits)
            if MIN_INT <= number <= MAX_INT:
                return number
        raise fault("the string is no 64-bit integer", value)
    raise fault(f"`int` does not take {kind_of(value)}", value)


def to_double(value: Any, fault: Fault) -> object:
    """Return ``double(value)``."""
    kind = type(value)
    if kind is float:
        return value
    if kind is int:
        return float(_fits(value, value, fault))
    if kind is str:
        digits = value.strip(_SPACES)
        if digits.isascii() and "_" not in digits:
            try:
                return float(digits)
            except ValueError:
                pass
        raise fault("the string is no number", value)
    raise fault(f"`double` does not take {kind_of(value)}", value)


def to_string(value: Any, fault: Fault) -> object:
    """Return ``string(value)``."""
    kind = type(value)
    if kind is str:
        return value
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(_fits(value, value, fault))
    if kind is float:
        return _double_text(value)
    raise fault(f"`string` does not take {kind_of(value)}", value)


def _double_text(value: float) -> str:
    """Return a double in the shortest digits that give it back, with C's switch to an exponent at 10**6 and 10**-4."""
    text = repr(value)
    if "e" in text or not math.isfinite(value):
        return text
    sign, digits = ("-", text[1:]) if text[0] == "-" else ("", text)
    whole, fraction = digits.split(".")
    fraction = fraction.rstrip("0")
    if len(whole) <= 6:
        return f"{sign}{whole}.{fraction}" if fraction else sign + whole
    tail = (whole[1:] + fraction).rstrip("0")
    return f"{sign}{whole[0]}{'.' if tail else ''}{tail}e+{len(whole) - 1:02}"


def to_bool(value: Any, fault: Fault) -> object:
    """Return ``bool(value)``."""
    if type(value) is bool:
        return value
    if type(value) is str:
        if value in _BOOLS:
            return _BOOLS[value]
        raise fault("the string is neither true nor false", value)
    raise fault(f"`bool` does not take {kind_of(value)}", value)


def _two_strings(name: str, value: object, other: object, fault: Fault) -> None:
    for side in (value, other):
        if type(side) is not str:
            raise fault(f"`{name}` needs two strings, not {kind_of(side)}", side)


def starts_with(value: Any, prefix: Any, fault: Fault) -> object:
    """Return ``value.startsWith(prefix)``."""
    _two_strings("startsWith", value, prefix, fault)
    return value.startswith(prefix)


def ends_with(value: Any, suffix: Any, fault: Fault) -> object:
    """Return ``value.endsWith(suffix)``."""
    _two_strings("endsWith", value, suffix, fault)
    return value.endswith(suffix)


def contains_text(value: Any, part: Any, fault: Fault) -> object:
    """Return ``value.contains(part)``."""
    _two_strings("contains", value, part, fault)
    return part in value
