"""Tokens: what is not exactly what was configured is refused, and nothing has happened."""

from __future__ import annotations

import base64
import hmac
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from knhk.server import identity
from knhk.server.configuration import Algorithm, Configuration
from knhk.server.identity import (
    AGAIN_AFTER,
    KEPT_FOR,
    LEEWAY,
    LONGEST_LIFE,
    LONGEST_TOKEN,
    PublishedKeys,
    Unauthenticated,
    Verifier,
    make_token,
    verifier_of,
)
from tests.served import SECRET, Served, problem, served, token

NOW = int(time.time())
GOOD: dict[str, Any] = {"sub": "eve", "roles": ["admin"], "iat": NOW, "exp": NOW + 36_000}


def part(content: Any) -> str:
    """A part of a token: JSON of anything, or bytes as they are."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: Any, claims: Any, key: bytes = SECRET.encode(), how: str = "sha256") -> str:
    """A token that is signed rightly, whatever it says."""
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{part(hmac.new(key, text.encode(), how).digest())}"


def claiming(**claims: Any) -> str:
    """A token that is signed rightly and claims this besides, or instead; what is None is left out."""
    told = {**GOOD, **claims}
    return signed({"alg": "HS256"}, {name: value for name, value in told.items() if value is not None})


def headed(**header: Any) -> str:
    """A token with another header, signed rightly."""
    return signed({"alg": "HS256", "typ": "JWT", **header}, GOOD)


RIGHT = signed({"alg": "HS256"}, GOOD)
HEAD, BODY, SIGNATURE = RIGHT.split(".")
CLAIMS = json.dumps(GOOD)[1:-1]
DEEP = b'{"a":' * 2000 + b"1" + b"}" * 2000
PEM = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
)
HOSTILE = {
    **{
        f"alg {alg!r}, {'no' if not kept else 'the'} signature": f"{part({'alg': alg})}.{BODY}.{SIGNATURE if kept else ''}"
        for alg in ("none", "None", "nOnE", "", None, ["HS256"], 256)
        for kept in (True, False)
    },
    "no alg": signed({"typ": "JWT"}, GOOD),
    "alg twice": signed(b'{"alg":"none","alg":"HS256"}', GOOD),
    "HS384": signed({"alg": "HS384"}, GOOD, how="sha384"),
    "HS512": signed({"alg": "HS512"}, GOOD, how="sha512"),
    "RS256 over our HMAC": signed({"alg": "RS256"}, GOOD),
    "ES256 of zeros": f"{part({'alg': 'ES256'})}.{BODY}.{part(bytes(64))}",
    "lower case alg": signed({"alg": "hs256"}, GOOD),
    "own key in jwk": headed(jwk={"kty": "oct", "k": part(b"mine")}),
    "jku": headed(jku="https://attacker.example/keys"),
    "x5u": headed(x5u="https://attacker.example/cert"),
    "x5c": headed(x5c=["MIIB"]),
    "crit": headed(crit=["exp"], exp=1),
    "b64": headed(b64=False),
    "cty": headed(cty="JWT"),
    "zip": headed(zip="DEF"),
    "enc": headed(enc="A128GCM"),
    "typ": headed(typ="secevent+jwt"),
    "kid of a list": headed(kid=["a"]),
    "kid of a number": headed(kid=1),
    "kid of an object": headed(kid={"a": 1}),
    "kid of 100 kB": headed(kid="k" * 100_000),
    "header no object": signed([], GOOD),
    "claims no object": signed({"alg": "HS256"}, [GOOD]),
    "claims no JSON": signed({"alg": "HS256"}, b"admin"),
    "claims no UTF-8": signed({"alg": "HS256"}, b'{"sub":"\xff"}'),
    "two parts": f"{HEAD}.{BODY}",
    "four parts": f"{RIGHT}.{SIGNATURE}",
    "five parts": f"{RIGHT}.{SIGNATURE}.{SIGNATURE}",
    "JWS in JSON": json.dumps({"payload": BODY, "signatures": [{"protected": HEAD, "signature": SIGNATURE}]}),
    "deep header": signed(b'{"alg":"HS256","x":' + DEEP + b"}", GOOD),
    "deep claims": signed({"alg": "HS256"}, DEEP),
    "first bit of the signature": f"{HEAD}.{BODY}.{'A' if SIGNATURE[0] != 'A' else 'B'}{SIGNATURE[1:]}",
    "no signature": f"{HEAD}.{BODY}.",
    "half a signature": f"{HEAD}.{BODY}.{SIGNATURE[:20]}",
    "another's signature": f"{HEAD}.{part({**GOOD, 'sub': 'root'})}.{SIGNATURE}",
    "another key": signed({"alg": "HS256"}, GOOD, b"attacker" * 8),
    "no key": signed({"alg": "HS256"}, GOOD, b""),
    "a public key as secret": signed({"alg": "HS256"}, GOOD, PEM),
    **{f"weak secret {each!r}": signed({"alg": "HS256"}, GOOD, each) for each in (b"secret", b"password", b"changeme")},
    "padded": f"{RIGHT}=",
    "unused bits": f"{HEAD}.{BODY}.{SIGNATURE[:-1]}{chr(ord(SIGNATURE[-1]) + 1)}",
    "blank inside": f"{HEAD}. {BODY}.{SIGNATURE}",
    "standard alphabet": f"{HEAD}.{BODY}.{SIGNATURE[:-1]}+",
    "expired": claiming(exp=NOW - LEEWAY - 1),
    "no exp": claiming(exp=None),
    "exp of text": claiming(exp=str(NOW + 36_000)),
    "exp null": signed({"alg": "HS256"}, {**GOOD, "exp": None}),
    "exp of a list": claiming(exp=[NOW + 36_000]),
    "exp true": claiming(exp=True),
    "exp Infinity": signed({"alg": "HS256"}, f'{{{CLAIMS},"exp":Infinity}}'.replace('"exp": ', '"x": ').encode()),
    "exp NaN": signed({"alg": "HS256"}, f'{{{CLAIMS},"exp":NaN}}'.replace('"exp": ', '"x": ').encode()),
    "exp of 400 digits": claiming(exp=int("9" * 400)),
    "exp in ten years": claiming(exp=NOW + 10 * LONGEST_LIFE),
    "exp before iat": claiming(iat=NOW + 20, exp=NOW + 10),
    "nbf in the future": claiming(nbf=NOW + LEEWAY + 90_000),
    "iat in the future": claiming(iat=NOW + LEEWAY + 90_000),
    "iat of text": claiming(iat="now"),
    "no sub": claiming(sub=None),
    "sub empty": claiming(sub=""),
    "sub of a number": claiming(sub=7),
    "sub of an object": claiming(sub={"name": "ann"}),
    "sub with NUL": claiming(sub="ann\0"),
    "sub with a line": claiming(sub="ann\nadmin"),
    "sub with a lone surrogate": signed({"alg": "HS256"}, rb'{"sub":"\ud800","exp":%d}' % (NOW + 36_000)),
    "sub too long": claiming(sub="a" * 257),
    "tenant of a list": claiming(tenant=["default"]),
    "tenant with a mark": claiming(tenant="~acme~"),
    "tenant in capitals": claiming(tenant="Default"),
    "roles twice": signed({"alg": "HS256"}, f'{{{CLAIMS},"roles":["viewer"]}}'.encode()),
    "sub twice": signed({"alg": "HS256"}, f'{{{CLAIMS},"sub":"root"}}'.encode()),
    "too long": signed({"alg": "HS256"}, {**GOOD, "more": "m" * LONGEST_TOKEN}),
}


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    """A service with a workflow and a case."""
    with served() as made:
        made.register()
        made.case()
        yield made


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_hostile_token(service: Served, hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that is not exactly what was configured is refused with 401, fast, without a request to anybody, and nothing has changed."""
    before = service.state()
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("a request went out"))
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a request went out"))
    begun = time.monotonic()

    answer = service.ask("DELETE", "/workflows/order", bearer=hostile)

    assert problem(answer, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert time.monotonic() - begun < 5
    assert before == service.state()
    assert hostile[:40] not in answer.text


def test_there_are_forty_hostile_tokens() -> None:
    """The rows above are as many as they should be, and the token that they were made from is a good one."""
    assert len(HOSTILE) >= 40
    with served() as service:
        assert 200 == service.ask("GET", "/cases", bearer=RIGHT).status_code


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": RIGHT},
        {"Authorization": f"Basic {RIGHT}"},
        {"Authorization": f"Bearer {RIGHT}, Bearer {RIGHT}"},
        {"Authorization": f"Bearer  {RIGHT}"},
        {"Authorization": f"Bearer\t{RIGHT}"},
        {"Cookie": f"token={RIGHT}"},
        {"X-Authorization": f"Bearer {RIGHT}"},
        {"X-Remote-User": "root"},
        {"X-Forwarded-User": "root", "X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Client-Cert": "By=spiffe://knhk.org/admin"},
        {"Authorization": "Bearer \xfc.\xfc.\xfc"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_token_elsewhere(service: Served, method: str, headers: dict[str, str]) -> None:
    """A token counts in one Authorization header and nowhere else, and no header says who somebody is."""
    answer = service.client.simulate_request(
        method, "/api/v1/cases", headers=headers, query_string=f"access_token={RIGHT}"
    )

    assert 401 == answer.status_code


@pytest.mark.parametrize(
    "roles",
    [
        ["Admin"],
        [" admin"],
        ["\uff41dmin"],
        ["adm\u200bin"],
        [["admin"]],
        "admin",
        "viewer,admin",
        ["*"],
        True,
        None,
        {"a": 1},
    ],
)
def test_role_that_is_none(service: Served, roles: Any) -> None:
    """A role that is not exactly one of the service's gives no right, whatever other claims say."""
    answer = service.ask("GET", "/cases", bearer=claiming(roles=roles, admin=True, scope="admin"))

    assert problem(answer, "forbidden")


def keys(kind: str) -> tuple[Any, bytes]:
    """A private key, and the text of its public one."""
    private: Any = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        if kind == "RS256"
        else ec.generate_private_key(ec.SECP256R1())
    )
    text = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, text


@pytest.mark.parametrize("kind", ["RS256", "ES256"])
def test_public_key(kind: str, tmp_path: Path) -> None:
    """With a public key tokens of its private key count, those of another do not, and those signed with its text as a secret do not."""
    private, text = keys(kind)
    (tmp_path / "key.pem").write_bytes(text)
    verifier = verifier_of(
        Configuration(jwt_algorithm=Algorithm(kind), jwt_public_key_file=str(tmp_path / "key.pem")), b""
    )

    assert "eve" == verifier.caller(f"Bearer {jwt.encode(GOOD, private, algorithm=kind)}").subject
    other = jwt.encode(GOOD, keys(kind)[0], algorithm=kind)
    confused = [signed({"alg": "HS256"}, GOOD, each) for each in (text, text.strip(), text.replace(b"\n", b"\r\n"))]
    for each in (other, *confused, f"{part({'alg': kind})}.{BODY}.{part(bytes(64))}"):
        with pytest.raises(Unauthenticated):
            verifier.caller(f"Bearer {each}")


def test_private_key_is_refused(tmp_path: Path) -> None:
    """A file with a private key is refused: the service does not need it."""
    private, _ = keys("ES256")
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(text)

    with pytest.raises(ValueError, match="private"):
        verifier_of(Configuration(jwt_algorithm=Algorithm.ES256, jwt_public_key_file=str(tmp_path / "key.pem")), b"")


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({"iss": "https://id.example", "aud": "knhk"}, True),
        ({"iss": "https://id.example", "aud": ["other", "knhk"]}, True),
        ({"iss": "https://id.example"}, False),
        ({"aud": "knhk"}, False),
        ({"iss": "https://id.example/", "aud": "knhk"}, False),
        ({"iss": "https://ID.example", "aud": "knhk"}, False),
        ({"iss": ["https://id.example"], "aud": "knhk"}, False),
        ({"iss": "https://id.example", "aud": "knhk2"}, False),
        ({"iss": "https://id.example", "aud": ["other"]}, False),
        ({"iss": "https://id.example", "aud": 7}, False),
    ],
)
def test_issuer_and_audience(claims: dict[str, Any], good: bool) -> None:
    """Where an issuer and an audience are configured, a token must name exactly these."""
    verifier = Verifier(Algorithm.HS256, lambda _: SECRET.encode(), issuer="https://id.example", audience="knhk")
    header = f"Bearer {claiming(**claims)}"

    if good:
        assert "eve" == verifier.caller(header).subject
    else:
        with pytest.raises(Unauthenticated):
            verifier.caller(header)


@pytest.mark.parametrize(("late", "good"), [(0, True), (599, True), (600 + LEEWAY - 1, True), (600 + LEEWAY, False)])
def test_expiry_by_the_clock(late: int, good: bool) -> None:
    """A token counts until its end, and a little longer for clocks that differ."""
    made = make_token(SECRET.encode(), subject="ann", roles=["viewer"], seconds=600, now=1_000_000)
    verifier = Verifier(Algorithm.HS256, lambda _: SECRET.encode(), now=lambda: 1_000_000 + late)

    if good:
        assert frozenset({"viewer"}) == verifier.caller(f"bearer {made}").roles
    else:
        with pytest.raises(Unauthenticated):
            verifier.caller(f"bearer {made}")


def test_known_token_is_looked_at_again() -> None:
    """A token that was good before is refused once it has expired, its key was changed, or it is spelled in another way."""
    now, key = [1_000_000.0], [SECRET.encode()]
    verifier = Verifier(Algorithm.HS256, lambda _: key[0], now=lambda: now[0])
    made = make_token(SECRET.encode(), subject="ann", roles=["viewer"], seconds=600, now=now[0])

    def good(token: str) -> bool:
        try:
            return verifier.caller(f"Bearer {token}").subject == "ann"
        except Unauthenticated:
            return False

    last = "AB"[made[-1] == "A"]
    assert [True, True, False, False] == [good(each) for each in (made, made, f"{made}=", made[:-1] + last)]
    key[0] = b"another secret of 32 bytes and more"
    assert not good(made)
    key[0] = SECRET.encode()
    assert good(made)
    now[0] += 600 + LEEWAY
    assert not good(made)


def test_known_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more tokens are known than there is room for; one that was forgotten is found good anew."""
    monkeypatch.setattr(identity, "MOST_KNOWN", 3)
    verifier = Verifier(Algorithm.HS256, lambda _: SECRET.encode())
    tokens = [token(f"ann{number}", "viewer") for number in range(10)]

    assert [f"ann{number}" for number in range(10)] * 2 == [
        verifier.caller(f"Bearer {each}").subject for each in tokens * 2
    ]
    assert 3 == len(verifier._known)


def test_made_token_says_what_is_configured() -> None:
    """A token for development names issuer and audience where the service asks for them."""
    made = token("ann", "viewer", issuer="me", audience="you")

    assert {"iss": "me", "aud": "you", "tenant": "default"}.items() <= jwt.decode(
        made, options={"verify_signature": False}
    ).items()


class Issuer:
    """An issuer that publishes keys, on this machine."""

    def __init__(self) -> None:
        self.private: dict[str, Any] = {}
        self.asked = 0
        self.fails = False
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                self.send_response(500 if issuer.fails else 200)
                self.end_headers()
                keys = [
                    {**jwt.algorithms.RSAAlgorithm.to_jwk(each.public_key(), as_dict=True), "kid": name, "use": "sig"}
                    for name, each in issuer.private.items()
                ]
                self.wfile.write(json.dumps({"keys": keys}).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"

    def token(self, name: str, **header: Any) -> str:
        """A token of this key."""
        return f"Bearer {jwt.encode(GOOD, self.private[name], algorithm='RS256', headers={'kid': name, **header})}"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An issuer with one key."""
    made = Issuer()
    made.private["a"] = keys("RS256")[0]
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_published_keys(issuer: Issuer) -> None:
    """Keys that an issuer publishes are kept, a new one is found, one that was withdrawn is forgotten, and its end is survived."""
    now = [0.0]
    verifier = Verifier(Algorithm.RS256, PublishedKeys(issuer.url, seconds=lambda: now[0]).key)
    first = issuer.token("a")
    for _ in range(5):
        assert "eve" == verifier.caller(first).subject
    assert 1 == issuer.asked

    issuer.private["b"] = keys("RS256")[0]
    now[0] = AGAIN_AFTER
    assert "eve" == verifier.caller(issuer.token("b")).subject
    del issuer.private["a"]
    now[0] += KEPT_FOR
    with pytest.raises(Unauthenticated):
        verifier.caller(first)
    issuer.fails = True
    now[0] += KEPT_FOR
    assert "eve" == verifier.caller(issuer.token("b")).subject


def test_flood_of_unknown_key_ids(issuer: Issuer) -> None:
    """Key ids that nobody published make no more than one request in ten seconds."""
    now = [0.0]
    verifier = Verifier(Algorithm.RS256, PublishedKeys(issuer.url, seconds=lambda: now[0]).key)
    for number in range(200):
        now[0] = number / 10
        with pytest.raises(Unauthenticated):
            verifier.caller(issuer.token("a", kid=f"made-up-{number}"))

    assert issuer.asked <= 2


def test_published_keys_are_configured(issuer: Issuer) -> None:
    """The address of the keys comes from the configuration; a token without a key id has none of them."""
    verifier = verifier_of(Configuration(jwt_algorithm=Algorithm.RS256, jwt_jwks_url=issuer.url), b"")

    assert "eve" == verifier.caller(issuer.token("a")).subject
    with pytest.raises(Unauthenticated):
        verifier.caller(f"Bearer {jwt.encode(GOOD, issuer.private['a'], algorithm='RS256')}")
