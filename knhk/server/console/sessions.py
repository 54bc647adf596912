"""Who looks: the token in a cookie, and the sign that a form comes from one of our pages."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Final

import falcon  # noqa: TC002 - as the rest

from knhk.server.problems import Problem

ROOT: Final = "/console"
TOKEN_COOKIE: Final = "knhk-token"
FORM_COOKIE: Final = "knhk-form"
SIGN: Final = "form_token"
"""The field of every form that changes something."""

_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")


def token_of(req: falcon.Request) -> str:
    """Return the token that a browser keeps, or ""; one that is there twice does not count."""
    kept = req.get_cookie_values(TOKEN_COOKIE) or []
    return kept[0] if len(kept) == 1 else ""


def keep_token(req: falcon.Request, resp: falcon.Response, token: str) -> None:
    """Let a browser keep a token, out of the reach of scripts and of other sites, until it is closed."""
    _keep(req, resp, TOKEN_COOKIE, token)


def forget_token(resp: falcon.Response) -> None:
    """Let a browser keep a token no more."""
    resp.unset_cookie(TOKEN_COOKIE, path=ROOT, same_site="Strict")


def sign(req: falcon.Request, resp: falcon.Response) -> str:
    """
    Return the sign for the forms of a page, and let the browser keep the secret that it is made of.

    It is HMAC-SHA256 of the token under that secret: no instance has to remember it, and another site can make none.
    """
    secret = _secret(req)
    if not secret:
        secret = secrets.token_urlsafe(32)
        _keep(req, resp, FORM_COOKIE, secret)
    return _signed(secret, token_of(req))


def check_sign(req: falcon.Request, given: str) -> None:
    """Raise Problem where a form does not come from a page that this browser was given."""
    secret = _secret(req)
    if not secret or not hmac.compare_digest(_signed(secret, token_of(req)).encode(), given.encode()):
        raise Problem(kind="forbidden", detail="the form is not of this session: load its page again")


def _signed(secret: str, token: str) -> str:
    return hmac.new(secret.encode(), token.encode(), hashlib.sha256).hexdigest()


def _secret(req: falcon.Request) -> str:
    kept = req.get_cookie_values(FORM_COOKIE) or []
    return kept[0] if len(kept) == 1 and _SECRET.fullmatch(kept[0]) else ""


def _keep(req: falcon.Request, resp: falcon.Response, name: str, value: str) -> None:
    resp.set_cookie(name, value, path=ROOT, http_only=True, same_site="Strict", secure=req.scheme == "https")
