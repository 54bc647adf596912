"""The console's place in the application."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

import falcon  # noqa: TC002 - as the rest

from knhk.server.console.gate import ConsoleGate, harden
from knhk.server.console.pages import ROUTES, Door
from knhk.server.console.sessions import ROOT
from knhk.server.rest import NOTHING_THERE, HttpGate, resource_of

_STATIC: Final = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def mount(app: falcon.App[falcon.Request, falcon.Response], gate: HttpGate) -> None:
    """Add the pages to an application, behind a gate like the API's."""
    console = ConsoleGate.beside(gate)
    for path, operations in ROUTES.items():
        app.add_route(ROOT + path, resource_of(console, operations))
    door = Door(console)
    app.add_route(ROOT, door)
    app.add_route(f"{ROOT}/login", door, suffix="login")
    app.add_route(f"{ROOT}/logout", door, suffix="logout")
    for name, media in _STATIC.items():
        app.add_route(f"{ROOT}/static/{name}", _File(name, media))
    app.add_sink(lambda req, resp, **_: console.handle(req, resp, None, {}, NOTHING_THERE), ROOT + "/")


class _File:
    """A file of the console; it says nothing that not everybody knows."""

    def __init__(self, name: str, media: str) -> None:
        self._content = (files("knhk.server.console") / "static" / name).read_bytes()
        self._media = media

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer."""
        del req
        resp.data, resp.content_type = self._content, self._media
        harden(resp)
