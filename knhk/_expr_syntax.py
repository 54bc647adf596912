"""
The text of an expression to its tree: lexer, nodes and parser of the CEL subset (the grammar is in `knhk.expr`).

Three rules:

* **One pass, no backtracking.** Binary operators are reduced on an explicit stack: a chain of them costs no Python
  frame, and a level of nesting costs the parser at most eight.
* **The tree is shallow.** A node knows its depth, and no node deeper than `MAX_DEPTH` is ever made. `&&` and `||` are
  associative with their error rules, so a chain of them is one flat node; every other operator of a chain is one level.
  Whoever walks the tree may therefore recurse without a thought.
* **Every finding has a place.** A syntax error ends the parse; unknown names are collected, so that the modeller sees
  all of them.

Strictly private: `knhk.expr` is the way in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NoReturn, TypeAlias

import attrs

from knhk.errors import ParseError, Problem

# The limit of the full language's library too: a text that the subset takes is never too deep there, give or take one
# level.
MAX_DEPTH: Final = 32
# An expression is a line or two; the bound keeps every later cost (a chain, a list) small.
MAX_TEXT: Final = 4096
MIN_INT: Final = -(2**63)
MAX_INT: Final = 2**63 - 1

EXTRA: Final = 'is not in the core\'s subset of CEL: install knhk[cel] and use dialect="full"'
_EXCERPT: Final = 72


def problem_at(text: str, offset: int, message: str) -> Problem:
    """
    Return a problem that shows its place: line, column, the line itself and a caret below.

    Args:
        text: the whole expression.
        offset: where in it.
        message: what is wrong and what would be right.
    """
    before = text[:offset]
    line_number = before.count("\n") + 1
    column = offset - (before.rfind("\n") + 1)
    line = text.split("\n")[line_number - 1]
    # A long line is shown as a window around the place; tabs and the like would move the caret.
    first = max(0, min(column - _EXCERPT // 2, len(line) - _EXCERPT))
    shown = "".join(c if c.isprintable() else " " for c in line[first : first + _EXCERPT])
    place = f"column {column + 1}" if "\n" not in text else f"line {line_number}, column {column + 1}"
    return Problem("", f"{place}: {message}\n      {shown}\n      {' ' * (column - first)}^")


# --- Nodes
# -----------------------------------------------------------------------------------------------------------------
# `start` and `end` delimit the node's text (parentheses excluded); `depth` is 1 for a leaf.


@attrs.frozen
class Constant:
    """A literal: int, float, str, bool or None."""

    start: int
    end: int
    depth: int
    value: int | float | str | bool | None


@attrs.frozen
class Variable:
    """A variable by its name."""

    start: int
    end: int
    depth: int
    name: str


@attrs.frozen
class Member:
    """``operand.name``."""

    start: int
    end: int
    depth: int
    operand: Node
    name: str


@attrs.frozen
class Has:
    """``has(operand.name)``."""

    start: int
    end: int
    depth: int
    operand: Node
    name: str


@attrs.frozen
class Element:
    """``operand[key]``."""

    start: int
    end: int
    depth: int
    operand: Node
    key: Node


@attrs.frozen
class Unary:
    """``!operand`` or ``-operand``."""

    start: int
    end: int
    depth: int
    operator: str
    operand: Node


@attrs.frozen
class Binary:
    """A comparison, an arithmetic operation or ``in``."""

    start: int
    end: int
    depth: int
    operator: str
    left: Node
    right: Node


@attrs.frozen
class Logic:
    """A chain of ``&&`` or of ``||``, flat."""

    start: int
    end: int
    depth: int
    operator: str
    operands: tuple[Node, ...]


@attrs.frozen
class Choice:
    """``condition ? yes : no``."""

    start: int
    end: int
    depth: int
    condition: Node
    yes: Node
    no: Node


@attrs.frozen
class Call:
    """A function of `FUNCTIONS` or a method of `METHODS`; a method's receiver is the first argument."""

    start: int
    end: int
    depth: int
    function: str
    arguments: tuple[Node, ...]


@attrs.frozen
class ListDisplay:
    """``[a, b]``."""

    start: int
    end: int
    depth: int
    items: tuple[Node, ...]


@attrs.frozen
class MapDisplay:
    """``{"a": b}``."""

    start: int
    end: int
    depth: int
    entries: tuple[tuple[Node, Node], ...]


Node: TypeAlias = (
    Constant | Variable | Member | Has | Element | Unary | Binary | Logic | Choice | Call | ListDisplay | MapDisplay
)

# --- Words
# -----------------------------------------------------------------------------------------------------------------

# Function and method names with the number of arguments (the receiver of a method not counted).
FUNCTIONS: Final[Mapping[str, int]] = {"size": 1, "int": 1, "double": 1, "string": 1, "bool": 1}
METHODS: Final[Mapping[str, int]] = {"size": 0, "startsWith": 1, "endsWith": 1, "contains": 1}

# What CEL has and the subset has not, so that the message can say where to find it.
_FULL_ONLY: Final = frozenset((
    "matches", "all", "exists", "exists_one", "map", "filter", "type", "dyn", "uint", "bytes", "timestamp", "duration",
    "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours", "getMilliseconds",
    "getMinutes", "getMonth", "getSeconds",
))  # fmt: skip
# CEL keeps these words from being variables; four of them are not even member names.
_RESERVED: Final = frozenset((
    "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
    "namespace", "null", "package", "return", "true", "var", "void", "while",
))  # fmt: skip
_NEVER_MEMBERS: Final = frozenset(("true", "false", "null", "in"))
_WORDS: Final[Mapping[str, bool | None]] = {"true": True, "false": False, "null": None}
# What people write who think of another language.
_MEANT: Final[Mapping[str, str]] = {
    "and": "&&", "or": "||", "not": "!", "is": "==", "=": "==", "&": "&&", "|": "||", "~": "!",
    "True": "true", "False": "false", "None": "null", "nil": "null", "undefined": "null", "len": "size",
}  # fmt: skip

_PRECEDENCE: Final[Mapping[str, int]] = {
    "||": 1,
    "&&": 2,
    "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3, "in": 3,
    "+": 4, "-": 4,
    "*": 5, "/": 5, "%": 5,
}  # fmt: skip

# --- Lexer
# -----------------------------------------------------------------------------------------------------------------

# Longest alternative first: a hexadecimal before a decimal, a triple quote before a single one. No pattern can
# backtrack far.
_TOKEN: Final = re.compile(
    r"""
    (?P<space>  (?: [ \t\r\n\f]+ | //[^\n]* )+ )
  | (?P<double> [0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)? | [0-9]+[eE][+-]?[0-9]+ | \.[0-9]+(?:[eE][+-]?[0-9]+)? )
  | (?P<int>    (?: 0x[0-9a-fA-F]+ | [0-9]+ ) (?P<unsigned>[uU])? )
  | (?P<string> (?P<bytes>[bB])? (?: (?P<raw>[rR]) (?: \"{3}(?:(?!\"{3})(?s:.))*\"{3} | '{3}(?:(?!'{3})(?s:.))*'{3}
                                                     | "[^"\r\n]*"  | '[^'\r\n]*' )
                | \"{3}(?:(?!\"{3})(?s:\\.|[^\\]))*\"{3} | '{3}(?:(?!'{3})(?s:\\.|[^\\]))*'{3}
                | "(?:\\.|[^"\\\r\n])*" | '(?:\\.|[^'\\\r\n])*' ) )
  | (?P<name>   [A-Za-z_][A-Za-z0-9_]* )
  | (?P<sign>   && | \|\| | == | != | <= | >= | [-+*/%<>!?:.,()\[\]{}] )
    """,
    re.VERBOSE,
)
_ESCAPE: Final = re.compile(
    r"\\(?:(?P<plain>[abfnrtv\\?\"'`])|[xX](?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})"
    r"|(?P<octal>[0-3][0-7]{2})|(?P<wrong>(?s:.)))"
)
_PLAIN: Final[Mapping[str, str]] = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "?": "?", '"': '"', "'": "'", "`": "`",
}  # fmt: skip


@attrs.frozen
class _Token:
    """A word of the text; `kind` is "int", "double", "string", "name", "end" or the sign itself."""

    kind: str
    start: int
    end: int
    value: int | float | str = ""


def _fail(text: str, offset: int, message: str, earlier: tuple[Problem, ...] = ()) -> NoReturn:
    raise ParseError([*earlier, problem_at(text, offset, message)])


def _tokens(text: str) -> list[_Token]:
    """Return the words of the text, an "end" last."""
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            _fail_at_character(text, position)
        start, position = position, match.end()
        word = match[0]
        match match.lastgroup:
            case "space":
                pass
            case "int":
                if match["unsigned"]:
                    _fail(text, start, f"an unsigned integer {EXTRA}")
                tokens.append(_Token("int", start, position, int(word, 16 if word[:2] == "0x" else 10)))
            case "double":
                tokens.append(_Token("double", start, position, float(word)))
            case "string":
                tokens.append(_Token("string", start, position, _string(text, match)))
            case "name":
                tokens.append(_Token("name", start, position, word))
            case _:
                tokens.append(_Token(word, start, position, word))
    tokens.append(_Token("end", len(text), len(text)))
    return tokens


def _fail_at_character(text: str, position: int) -> NoReturn:
    """Say which character has no place in an expression, and what was probably meant."""
    character = text[position]
    if character in "\"'":
        _fail(text, position, "this string does not end (a line break needs triple quotes or \\n)")
    if character == "`":
        _fail(text, position, 'a name in backquotes is not in the subset: write data["name"]')
    hint = f": write `{_MEANT[character]}`" if character in _MEANT else ""
    _fail(text, position, f"{character!r} is not part of the language{hint}")


def _string(text: str, match: re.Match[str]) -> str:
    """Return what a string literal means."""
    start = match.start()
    if match["bytes"]:
        _fail(text, start, f"a bytes literal {EXTRA}")
    literal = match["string"]
    raw = match["raw"] is not None
    if raw:
        literal = literal[1:]
    body = literal[1:-1]
    if literal[:3] in ('"""', "'''"):
        body = literal[3:-3].replace("\r\n", "\n").replace("\r", "\n")
    if raw:
        if (len(body) - len(body.rstrip("\\"))) % 2:
            # Google's parser takes the last one for an escape of the quote and refuses it; so does the subset.
            _fail(text, start, "a raw string cannot end with a single backslash")
        return body
    return _ESCAPE.sub(lambda escape: _unescape(text, start, escape), body) if "\\" in body else body


def _unescape(text: str, start: int, escape: re.Match[str]) -> str:
    if escape["plain"]:
        return _PLAIN[escape["plain"]]
    if escape["octal"]:
        return chr(int(escape["octal"], 8))
    digits = escape["x"] or escape["u"] or escape["U"]
    if digits is None:
        _fail(text, start, f"`{escape[0]}` is no escape; some are \\n \\t \\\\ \\\" \\' \\xHH \\uHHHH \\UHHHHHHHH")
    code = int(digits, 16)
    if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF:
        _fail(text, start, f"`{escape[0]}` is no Unicode character")
    return chr(code)


# --- Parser
# ----------------------------------------------------------------------------------------------------------------


def parse(text: str, variables: frozenset[str]) -> Node:
    """
    Return the tree of an expression.

    Args:
        text: the expression.
        variables: the names that it may use.

    Raises:
        ParseError: the text is not an expression of the subset, or too long, or too deep.
    """
    parser = _Parser(text, variables)
    node = parser.whole()
    if parser.problems:
        raise ParseError(parser.problems)
    return node


class _Parser:
    """Recursive descent for what nests, an operator stack for what chains."""

    __slots__ = ("_index", "_nesting", "_text", "_tokens", "_variables", "problems")

    def __init__(self, text: str, variables: frozenset[str]) -> None:
        self._text = text
        self._variables = variables
        self._tokens = _tokens(text)
        self._index = 0
        self._nesting = 0
        self.problems: list[Problem] = []

    def whole(self) -> Node:
        node = self._expression()
        token = self._token()
        if token.kind != "end":
            self._unexpected(token, "the end, or an operator")
        return node

    # Moving along.

    def _token(self) -> _Token:
        return self._tokens[self._index]

    def _advance(self) -> _Token:
        token = self._tokens[self._index]
        self._index += 1
        return token

    def _accept(self, kind: str) -> bool:
        if self._tokens[self._index].kind != kind:
            return False
        self._index += 1
        return True

    def _expect(self, kind: str) -> _Token:
        token = self._token()
        if token.kind != kind:
            self._unexpected(token, f"`{kind}`")
        return self._advance()

    # Saying what is wrong.

    def _stop(self, offset: int, message: str) -> NoReturn:
        _fail(self._text, offset, message, tuple(self.problems))

    def _unexpected(self, token: _Token, wanted: str) -> NoReturn:
        word = self._text[token.start : token.end]
        found = f"`{word}` is unexpected" if word else "the expression ends"
        hint = f"write `{_MEANT[word]}`" if word in _MEANT else f"expected {wanted}"
        self._stop(token.start, f"{found} here; {hint}")

    def _report(self, offset: int, message: str) -> None:
        self.problems.append(problem_at(self._text, offset, message))

    def _depth(self, start: int, *children: Node) -> int:
        """Return the depth of a node with these children; the limit on every recursion is here."""
        return self._limit(start, 1 + max((child.depth for child in children), default=0))

    def _limit(self, start: int, depth: int) -> int:
        if depth > MAX_DEPTH:
            self._stop(start, f"the expression is more than {MAX_DEPTH} levels deep")
        return depth

    # The grammar, from the loosest binding to the tightest.

    def _expression(self) -> Node:
        self._nesting = self._limit(self._token().start, self._nesting + 1)
        node = self._operators()
        if self._accept("?"):
            yes = self._operators()
            self._expect(":")
            no = self._expression()
            depth = self._depth(node.start, node, yes, no)
            node = Choice(node.start, no.end, depth, node, yes, no)
        self._nesting -= 1
        return node

    def _operators(self) -> Node:
        """Read a chain of binary operators; all of CEL's are left-associative."""
        operands = [self._unary()]
        pending: list[str] = []
        while True:
            token = self._token()
            operator = str(token.value)
            # A string may hold an operator's letters; only a sign or the word `in` is one.
            binding = 0 if token.kind == "string" else _PRECEDENCE.get(operator, 0)
            while pending and _PRECEDENCE[pending[-1]] >= binding:
                right = operands.pop()
                operands.append(self._join(pending.pop(), operands.pop(), right))
            if not binding:
                return operands[0]
            self._index += 1
            pending.append(operator)
            operands.append(self._unary())

    def _join(self, operator: str, left: Node, right: Node) -> Node:
        if _PRECEDENCE[operator] <= 2:
            parts: tuple[Node, ...] = ()
            depth = 0
            for side in (left, right):
                if isinstance(side, Logic) and side.operator == operator:
                    parts += side.operands
                    depth = max(depth, side.depth)
                else:
                    parts += (side,)
                    depth = max(depth, side.depth + 1)
            return Logic(left.start, right.end, self._limit(left.start, depth), operator, parts)
        return Binary(left.start, right.end, self._depth(left.start, left, right), operator, left, right)

    def _unary(self) -> Node:
        token = self._token()
        if token.kind not in ("!", "-"):
            return self._postfix()
        count = 0
        while self._accept(token.kind):
            count += 1
        number = self._token()
        if token.kind == "-" and count == 1 and number.kind in ("int", "double"):
            # The sign belongs to the literal: the least integer could not be written otherwise.
            return self._postfix(negative=token)
        operand = self._postfix()
        if count % 2 == 0:
            # NOTE: CEL's parsers drop a pair of signs unread, so `!!5` is 5 and no error.
            return operand
        return Unary(token.start, operand.end, self._depth(token.start, operand), token.kind, operand)

    def _postfix(self, negative: _Token | None = None) -> Node:
        node = self._primary() if negative is None else self._number(self._advance(), negative)
        while True:
            if self._accept("."):
                node = self._member(node)
            elif self._accept("["):
                if self._token().kind == "?":
                    self._stop(self._token().start, f"an optional element {EXTRA}")
                key = self._expression()
                end = self._expect("]").end
                node = Element(node.start, end, self._depth(node.start, node, key), node, key)
            else:
                return node

    def _member(self, operand: Node) -> Node:
        token = self._token()
        if token.kind == "?":
            self._stop(token.start, f"an optional member {EXTRA}")
        if token.kind != "name":
            self._unexpected(token, "a member's name")
        name = str(self._advance().value)
        if name in _NEVER_MEMBERS:
            self._stop(token.start, f'`{name}` cannot follow a dot: write ["{name}"]')
        if not self._accept("("):
            return Member(operand.start, token.end, self._depth(operand.start, operand), operand, name)
        arguments = self._arguments()
        self._check_call(token, name, METHODS, len(arguments))
        depth = self._depth(operand.start, operand, *arguments)
        return Call(operand.start, self._tokens[self._index - 1].end, depth, name, (operand, *arguments))

    def _arguments(self) -> tuple[Node, ...]:
        """Read what stands between parentheses, the closing one included."""
        if self._accept(")"):
            return ()
        arguments = [self._expression()]
        while self._accept(","):
            arguments.append(self._expression())
        self._expect(")")
        return tuple(arguments)

    def _check_call(self, token: _Token, name: str, known: Mapping[str, int], count: int) -> None:
        """Report a call of something unknown, or with the wrong number of arguments."""
        what = "function" if known is FUNCTIONS else "method"
        if name in known:
            if count != known[name]:
                self._report(token.start, f"`{name}` takes {known[name]} argument(s) as a {what}, not {count}")
        elif name in _FULL_ONLY:
            self._report(token.start, f"`{name}` {EXTRA}")
        elif name in METHODS:
            self._report(token.start, f"`{name}` is a method: write x.{name}(y)")
        elif name in FUNCTIONS or name == "has":
            self._report(token.start, f"`{name}` is a function: write {name}(x)")
        else:
            hint = f"; did you mean `{_MEANT[name]}`?" if name in _MEANT else ""
            self._report(token.start, f"unknown {what} `{name}`{hint}")

    def _primary(self) -> Node:
        token = self._token()
        self._index += 1
        match token.kind:
            case "int" | "double":
                return self._number(token)
            case "string":
                return Constant(token.start, token.end, 1, token.value)
            case "name":
                return self._name(token)
            case "(":
                node = self._expression()
                self._expect(")")
                return node
            case "[":
                return self._list(token)
            case "{":
                return self._map(token)
            case _:
                return self._unexpected(token, "a value")

    def _number(self, token: _Token, negative: _Token | None = None) -> Node:
        start = token.start if negative is None else negative.start
        value = token.value if negative is None else -token.value  # type: ignore[operator]  # a number's token
        if type(value) is int and not MIN_INT <= value <= MAX_INT:
            self._stop(start, "this integer does not fit in 64 bits")
        return Constant(start, token.end, 1, value)

    def _name(self, token: _Token) -> Node:
        name = str(token.value)
        if name in _WORDS:
            return Constant(token.start, token.end, 1, _WORDS[name])
        if name in _RESERVED:
            self._stop(token.start, f"`{name}` is a reserved word: a member of that name is written data.{name}")
        if self._accept("("):
            return self._has(token) if name == "has" else self._function(token, name)
        if self._token().kind == "string" and name.lower() in ("r", "b", "rb", "br"):
            self._stop(token.start, f'`{name}` cannot stand before a string: write r"..."')
        if name not in self._variables:
            known = ", ".join(f"`{variable}`" for variable in sorted(self._variables))
            meant = _MEANT.get(name, f"data.{name}" if "data" in self._variables else "")
            hint = f"; did you mean `{meant}`?" if meant else ""
            self._report(token.start, f"unknown variable `{name}`: known here: {known or 'none'}{hint}")
        return Variable(token.start, token.end, 1, name)

    def _function(self, token: _Token, name: str) -> Node:
        arguments = self._arguments()
        self._check_call(token, name, FUNCTIONS, len(arguments))
        end = self._tokens[self._index - 1].end
        return Call(token.start, end, self._depth(token.start, *arguments), name, arguments)

    def _has(self, token: _Token) -> Node:
        arguments = self._arguments()
        if len(arguments) != 1 or not isinstance(arguments[0], Member):
            self._stop(token.start, "`has` takes one member, as in has(data.name); for other keys write `in`")
        member = arguments[0]
        end = self._tokens[self._index - 1].end
        return Has(token.start, end, member.depth, member.operand, member.name)

    def _list(self, token: _Token) -> Node:
        items: list[Node] = []
        while not self._accept("]"):
            items.append(self._expression())
            if not self._accept(","):
                self._expect("]")
                break
        end = self._tokens[self._index - 1].end
        return ListDisplay(token.start, end, self._depth(token.start, *items), tuple(items))

    def _map(self, token: _Token) -> Node:
        entries: list[tuple[Node, Node]] = []
        seen: set[object] = set()
        while not self._accept("}"):
            key = self._expression()
            if isinstance(key, Constant):
                if type(key.value) is not str:
                    self._stop(key.start, "the keys of a map are strings here, as in JSON")
                if key.value in seen:
                    self._stop(key.start, "this key is in the map already")
                seen.add(key.value)
            self._expect(":")
            entries.append((key, self._expression()))
            if not self._accept(","):
                self._expect("}")
                break
        end = self._tokens[self._index - 1].end
        depth = self._depth(token.start, *(side for entry in entries for side in entry))
        return MapDisplay(token.start, end, depth, tuple(entries))
