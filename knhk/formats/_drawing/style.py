"""Colours: as attributes, which need no style sheet and show on a light page, and as one style sheet for dark ones.

A page with a strict content security policy may refuse the style sheet: then the picture is the light one.
Every rule is under the class of the whole picture, so that it changes nothing else in a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_LIGHT: Final = MappingProxyType(
    {
        "page": "#ffffff",
        "panel": "#f6f8fa",
        "box": "#ffffff",
        "edge": "#d0d7de",
        "ink": "#1f2328",
        "soft": "#59636e",
        "line": "#57606a",
        "work": "#0969da",
        "workbox": "#ddf4ff",
        "ready": "#9a6700",
        "readybox": "#fff8c5",
        "wrong": "#cf222e",
        "wrongbox": "#ffebe9",
        "been": "#1a7f37",
        "beenbox": "#dafbe1",
        "cancel": "#bc4c00",
        "onink": "#ffffff",
    }
)
_DARK: Final = MappingProxyType(
    {
        "page": "#0d1117",
        "panel": "#151b23",
        "box": "#212830",
        "edge": "#3d444d",
        "ink": "#f0f6fc",
        "soft": "#9198a1",
        "line": "#9198a1",
        "work": "#4493f8",
        "workbox": "#12305a",
        "ready": "#d29922",
        "readybox": "#3d2e0a",
        "wrong": "#f85149",
        "wrongbox": "#4c1a1c",
        "been": "#3fb950",
        "beenbox": "#12361f",
        "cancel": "#f0883e",
        "onink": "#0d1117",
    }
)

_PAINT: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "page": {"fill": "page"},
        "panel": {"fill": "panel", "stroke": "edge"},
        "heading": {"fill": "ink"},
        "note": {"fill": "soft"},
        "box": {"fill": "box", "stroke": "ink"},
        "box-running": {"fill": "workbox", "stroke": "work"},
        "box-enabled": {"fill": "readybox", "stroke": "ready"},
        "box-failed": {"fill": "wrongbox", "stroke": "wrong"},
        "box-visited": {"fill": "beenbox", "stroke": "been"},
        "box-wrong": {"fill": "box", "stroke": "wrong"},
        "box-begin": {"fill": "box", "stroke": "been"},
        "box-finish": {"fill": "box", "stroke": "wrong"},
        "inner": {"fill": "none", "stroke": "ink"},
        "solid": {"fill": "ink", "stroke": "ink"},
        "open": {"fill": "box", "stroke": "ink"},
        "symbol": {"fill": "none", "stroke": "soft"},
        "symbol-wrong": {"fill": "none", "stroke": "wrong"},
        "name": {"fill": "ink"},
        "begin": {"fill": "been", "stroke": "been"},
        "finish": {"fill": "wrong", "stroke": "wrong"},
        "token": {"fill": "ink", "stroke": "ink"},
        "figure": {"fill": "onink"},
        "line": {"fill": "none", "stroke": "line"},
        "line-visited": {"fill": "none", "stroke": "been"},
        "line-wrong": {"fill": "none", "stroke": "wrong"},
        "tip": {"fill": "line", "stroke": "line"},
        "tip-visited": {"fill": "been", "stroke": "been"},
        "tip-wrong": {"fill": "wrong", "stroke": "wrong"},
        "read": {"fill": "none", "stroke": "soft"},
        "label": {"fill": "soft"},
        "badge": {"fill": "work", "stroke": "box"},
        "badge-visited": {"fill": "been", "stroke": "box"},
        "region": {"fill": "none", "stroke": "cancel"},
        "letter": {"fill": "cancel"},
    }
)


def paint(name: str) -> str:
    """Return the class of a drawn thing, and its colours on a light page as attributes."""
    colours = "".join(f' {what}="{_LIGHT.get(colour, colour)}"' for what, colour in _PAINT[name].items())
    return f'class="{name}"{colours}'


def _rules() -> str:
    rules = []
    for name, paints in _PAINT.items():
        colours = ";".join(f"{what}:{_DARK.get(colour, colour)}" for what, colour in paints.items())
        rules.append(f".knhk-picture .{name}{{{colours}}}")
    return f"@media (prefers-color-scheme:dark){{{''.join(rules)}}}"


STYLE: Final = _rules()
"""The style sheet of every picture, for dark pages; always the same, so that a policy can allow it by its hash."""
