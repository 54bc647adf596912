"""Requests to the outside go where they may, to the address that was looked at, and their answers are bounded."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import trustme
from receiver import Answer, Got, Receiver

from knhk import MissingExtra, Outbound, OutboundError, OutboundFailed, OutboundRefused

PUBLIC = "93.184.215.14"


def to(*addresses: str) -> Any:
    """A resolver that knows one answer."""
    return lambda host, port: addresses


REFUSED = [
    # Loopback and this host, in every notation that some resolver reads.
    "http://127.0.0.1/",
    "http://127.0.0.1.:80/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://017700000001/",
    "http://0177.0.0.1/",
    "http://127.0.0.1.0x0/",
    "http://00000127.0.0.1/",
    "http://0.0.0.0/",
    "http://0/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    # Private, shared, link-local, metadata.
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://100.100.100.200/",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.170.2/",
    "http://168.63.129.16/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fc00::1]/",
    "http://[fec0::1]/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    # What leads to an IPv4 address inside an IPv6 one.
    "http://[64:ff9b::127.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::1]/",
    "http://[2002:7f00:1::]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[2001::1]/",
    # Reserved, multicast, documentation.
    "http://192.0.0.1/",
    "http://192.0.2.1/",
    "http://192.88.99.1/",
    "http://198.18.0.1/",
    "http://198.51.100.1/",
    "http://203.0.113.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[ff02::1]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[100::1]/",
    "http://[4000::1]/",
    # Schemes, users, ports, and what parsers read differently.
    "file:///etc/passwd",
    "gopher://8.8.8.8/",
    "dict://8.8.8.8:11211/",
    "ftp://8.8.8.8/",
    "unix:///run/docker.sock",
    "//8.8.8.8/",
    "8.8.8.8",
    "",
    "http://",
    "http:///path",
    "http://user@8.8.8.8/",
    "http://8.8.8.8@127.0.0.1/",
    "http://8.8.8.8:80@127.0.0.1/",
    "http://@8.8.8.8/",
    "http://8.8.8.8:22/",
    "http://8.8.8.8:0/",
    "http://8.8.8.8:65536/",
    "http://8.8.8.8:eighty/",
    "http://8.8.8.8\\@127.0.0.1/",
    "http://8.8.8.8\t/",
    "http://8.8.8.8/a b",
    "http://8.8.8.8/\r\nHost: x",
    "http://8.8.8.8/\x00",
    "http://8.8.8.8/ü",
    "http://8.8.8.8/?ü",
    "http://[8.8.8.8]/",
    "http://[::1/",
    "http://[v1.x]/",
    "http://exa mple.com/",
    "http://a..b/",
    "http://-a.com/",
    "http://a,b/",
    "http://ex%61mple.com/",
    "http://xn--a\u00ad.com\u2100/",
    "http://" + "a" * 64 + ".com/",
    "http://8.8.8.8/" + "a" * 8_000,
]


@pytest.mark.parametrize("url", REFUSED)
def test_what_is_not_outside_is_refused(url: str) -> None:
    """Every notation of an address that is not public, and every URL that parsers read differently, is refused,
    even by a resolver to which every name is a public one."""
    with pytest.raises(OutboundRefused, match="cannot be called"):
        Outbound(resolve=to(PUBLIC)).check(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://8.8.8.8/",
        "https://8.8.8.8:8443/a/b?c=d#e",
        "http://[2606:4700::1111]/",
        "http://[::ffff:8.8.8.8]/",
        "http://[64:ff9b::8.8.8.8]/",
        "http://example.com",
        "HTTP://EXAMPLE.COM./",
        "https://müller.example/",
        "http://under_score.example:8080/?a=%20",
    ],
)
def test_what_is_outside_may_be_called(url: str) -> None:
    """Public addresses, and names that lead to them, pass."""
    Outbound(resolve=to(PUBLIC, "2606:2800:21f:cb07:6820:80da:af6b:8b2c")).check(url)


def test_a_name_that_leads_inside_is_refused_whatever_else_it_leads_to() -> None:
    """One address that is not public among several refuses the name."""
    for inside in ("127.0.0.1", "169.254.169.254", "fe80::1%eth0", "::ffff:10.0.0.1"):
        with pytest.raises(OutboundRefused, match="innocent.example"):
            Outbound(resolve=to(PUBLIC, inside)).check("https://innocent.example/")


def test_a_name_that_is_not_found_passes_the_check_and_fails_the_request() -> None:
    """A host may be absent when somebody subscribes; a request to it is one that had no answer."""

    def nowhere(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror("Name or service not known")

    outbound = Outbound(resolve=nowhere)

    outbound.check("http://later.example/")
    with pytest.raises(OutboundFailed, match=r"later\.example cannot be found"):
        outbound.request("GET", "http://later.example/")
    with pytest.raises(OutboundFailed, match="has no address"):
        Outbound(resolve=to()).request("GET", "http://later.example/")


def test_a_target_says_what_is_asked_of_whom() -> None:
    """A URL is read into host, port, path and the header Host; names in their ASCII form."""
    read = Outbound().read

    assert ("example.com", 80, "/", "example.com") == attributes(read("http://EXAMPLE.com"))
    assert ("example.com", 8443, "/a?b=c", "example.com:8443") == attributes(read("https://example.com:8443/a?b=c#d"))
    assert ("xn--mller-kva.example", 443, "/", "xn--mller-kva.example") == attributes(read("https://müller.example"))
    assert ("2606:4700::1111", 8080, "/", "[2606:4700::1111]:8080") == attributes(read("http://[2606:4700::1111]:8080"))


def attributes(target: Any) -> tuple[str, int, str, str]:
    """What matters of a target."""
    return (target.host, target.port, target.path, target.authority)


@pytest.mark.parametrize(
    ("allow", "url", "passes"),
    [
        ("10.1.0.0/16", "http://10.1.2.3/", True),
        ("10.1.0.0/16", "http://10.2.0.1/", False),
        ("10.1.0.0/16", "http://10.1.2.3:9000/", False),
        ("10.1.0.0/16:9000", "http://10.1.2.3:9000/", True),
        ("10.1.0.0/16:9000", "http://10.1.2.3/", False),
        ("10.1.2.3", "http://[::ffff:10.1.2.3]/", True),
        ("fd00::/8", "http://[fd00::1]/", True),
        ("[fd00::/8]:9000", "http://[fd00::1]:9000/", True),
        ("[fd00::/8]:9000", "http://[fd00::1]/", False),
        ("hooks.internal", "http://hooks.internal/", True),
        ("hooks.internal:9000", "http://HOOKS.internal.:9000/", True),
        ("hooks.internal:9000", "http://hooks.internal/", False),
        ("hooks.internal", "http://a.hooks.internal/", False),
        ("hooks.internal", "http://hooks.internal:9000/", False),
        ("0.0.0.0/0", "http://169.254.169.254/", False),
        ("169.254.169.254", "http://169.254.169.254/", True),
        ("169.254.169.254", "http://[64:ff9b::169.254.169.254]/", True),
        ("8.8.8.8:22", "http://8.8.8.8:22/", True),
    ],
)
def test_the_allow_list_opens_what_it_names(allow: str, url: str, passes: bool) -> None:
    """An entry opens its network or host, its port where it names one, and no metadata service but by its address."""
    outbound = Outbound(allow=[allow], resolve=to("10.9.9.9"))

    if passes:
        outbound.check(url)
    else:
        with pytest.raises(OutboundRefused):
            outbound.check(url)


@pytest.mark.parametrize("entry", ["", "10.0.0.0/33", "a b", "host:0", "host:70000", "127.1", "http://x/", "[::1"])
def test_an_entry_that_cannot_be_read_is_refused(entry: str) -> None:
    """The allow list is read when it is given."""
    with pytest.raises(ValueError, match="allow list"):
        Outbound(allow=[entry])


def near(receiver: Receiver, **more: Any) -> Outbound:
    """A policy that allows a receiver on the loopback."""
    return Outbound(allow=[f"127.0.0.1:{receiver.port}"], **more)


def test_a_request_says_what_it_was_told_and_returns_what_came() -> None:
    """Method, path, headers and body arrive; status, headers and body come back, whatever the status."""
    with Receiver(lambda got: Answer(418, {"X-Pot": "tea"}, b"short")) as receiver:
        response = near(receiver).request(
            "PUT", receiver.url("/a%20b?c=1"), headers={"X-Cup": "full"}, body=b"leaves", timeout=5
        )

    (got,) = receiver.got
    assert ("PUT", "/a%20b?c=1", b"leaves") == (got.method, got.path, got.body)
    assert ("full", f"127.0.0.1:{receiver.port}") == (got.headers["x-cup"], got.headers["host"])
    assert (418, "tea", b"short") == (response.status, response.headers["x-pot"], response.body)


def test_the_connection_goes_to_the_address_that_was_looked_at() -> None:
    """A resolver that answers otherwise the second time is asked once, and the name is what the server is told (rebinding)."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ("127.0.0.1",) if len(asked) == 1 else ("127.0.0.2",)

    with Receiver() as receiver:
        outbound = Outbound(allow=[f"127.0.0.1:{receiver.port}"], resolve=rebinding)
        outbound.request("GET", receiver.url(host="turns.example"))
        with pytest.raises(OutboundRefused):
            outbound.request("GET", receiver.url(host="turns.example"))

    assert (2, 1) == (len(asked), len(receiver.got))
    assert f"turns.example:{receiver.port}" == receiver.got[0].headers["host"]


def test_redirects_are_not_followed() -> None:
    """A redirect is an answer; where it leads is not asked."""
    with Receiver(lambda got: Answer(302, {"Location": "http://169.254.169.254/latest/"})) as receiver:
        response = near(receiver).request("GET", receiver.url())

    assert (302, 1) == (response.status, len(receiver.got))


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would resolve the name again, and reach what this process cannot."""
    with Receiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.delenv("no_proxy", raising=False)

        assert 200 == near(receiver).request("GET", receiver.url()).status


def test_the_next_address_is_tried_where_one_cannot_be_reached() -> None:
    """A name with several addresses is reached at the first that answers."""
    with Receiver() as receiver:
        outbound = Outbound(allow=[f"127.0.0.0/8:{receiver.port}"], resolve=to("127.0.0.99", "127.0.0.1"))

        assert 200 == outbound.request("GET", receiver.url(host="two.example")).status


def test_credentials_go_to_their_host_alone() -> None:
    """Headers of a host are added to what goes there, also in place of one that was given."""
    with Receiver() as receiver:
        outbound = near(receiver, credentials={"BANK.example": {"Authorization": "s3cret"}}, resolve=to("127.0.0.1"))
        outbound.request("GET", receiver.url(host="bank.example"), headers={"Authorization": "given"})
        outbound.request("GET", receiver.url(host="other.example"))

    assert ["s3cret", None] == [each.headers.get("authorization") for each in receiver.got]


def drip(piece: bytes, *, head: bytes = b"") -> Any:
    """An answer that never ends."""

    def write(out: Any) -> None:
        out.write(head)
        for _ in range(100):
            out.write(piece)
            out.flush()
            time.sleep(0.02)

    return Answer(raw=write)


@pytest.mark.parametrize(
    "answer",
    [
        drip(b"a", head=b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        drip(b"a", head=b"HTTP/1.1 200 OK\r\n\r\n"),
        drip(b"X-A: b\r\n", head=b"HTTP/1.1 200 OK\r\n"),
        drip(b"1\r\na\r\n", head=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        drip(b""),
    ],
    ids=["body", "open end", "headers", "chunks", "silence"],
)
def test_an_answer_that_drips_is_cut_off(answer: Answer) -> None:
    """The time is for the whole answer, not from byte to byte."""
    with Receiver(lambda got: answer) as receiver:
        begun = time.monotonic()
        with pytest.raises(OutboundFailed, match=r"no whole answer within 0\.2 s"):
            near(receiver).request("GET", receiver.url(), timeout=0.2)

    assert time.monotonic() - begun < 5


def test_a_connection_that_does_not_come_to_stand_is_given_up() -> None:
    """Nobody accepts, or the handshake never ends: the time is bounded there too."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        outbound = Outbound(allow=[f"127.0.0.1:{port}"])
        with pytest.raises(OutboundFailed):
            outbound.request("GET", f"https://127.0.0.1:{port}/", timeout=0.2)
    with pytest.raises(OutboundFailed, match="no connection"):
        outbound.request("GET", f"http://127.0.0.1:{port}/", timeout=0.2)
    with pytest.raises(OutboundFailed, match="no whole answer within 0 s"):
        outbound.request("GET", f"http://127.0.0.1:{port}/", timeout=0)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(body=b"x" * 1_001), "longer than 1,000 bytes"),
        (drip(b"x" * 600, head=b"HTTP/1.1 200 OK\r\n\r\n"), "longer than 1,000 bytes"),
        (Answer(headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b"), "encoded as 'gzip'"),
        (Answer(raw=lambda out: out.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort")), "IncompleteRead"),
        (Answer(raw=lambda out: out.write(b"no http\r\n\r\n")), "no http"),
        (Answer(raw=lambda out: out.write(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n")), "headers"),
    ],
    ids=["long", "long without end", "encoded", "cut", "no http", "many headers"],
)
def test_an_answer_that_cannot_be_is_a_failure(answer: Answer, why: str) -> None:
    """What is longer than allowed, packed, cut short or no HTTP is no answer."""
    with Receiver(lambda got: answer) as receiver, pytest.raises(OutboundFailed, match=why):
        near(receiver, max_response=1_000).request("GET", receiver.url(), timeout=5)


def test_an_answer_of_exactly_the_limit_passes() -> None:
    """The limit is the most that is allowed."""
    with Receiver(lambda got: Answer(body=b"x" * 1_000)) as receiver:
        assert 1_000 == len(near(receiver, max_response=1_000).request("GET", receiver.url()).body)


def test_a_header_cannot_break_out_of_its_line() -> None:
    """A line break in a header is a failure before anything is sent."""
    with Receiver() as receiver, pytest.raises(OutboundFailed, match="header"):
        near(receiver).request("GET", receiver.url(), headers={"X-A": "b\r\nX-C: d"})

    assert [] == receiver.got


@pytest.fixture
def secure(tmp_path: Any) -> Iterator[tuple[Receiver, str]]:
    """A server with a certificate for ``right.example``, and the file of its authority."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("right.example").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with Receiver(context=context) as receiver:
        yield receiver, str(tmp_path / "ca.pem")


def test_the_certificate_is_checked_for_the_name_not_the_address(secure: tuple[Receiver, str]) -> None:
    """The name of the URL is what the certificate has to be for; another name, or an authority unknown, is refused."""
    receiver, authority = secure
    trusting = near(receiver, ca_file=authority, resolve=to("127.0.0.1"))

    assert 200 == trusting.request("GET", receiver.url(host="right.example", scheme="https")).status
    for outbound, host in (
        (trusting, "wrong.example"),
        (trusting, "127.0.0.1"),
        (near(receiver, resolve=to("127.0.0.1")), "right.example"),
    ):
        with pytest.raises(OutboundFailed, match="(?i)certificate"):
            outbound.request("GET", receiver.url(host=host, scheme="https"))
    assert 1 == len(receiver.got)


def test_the_system_resolves_where_nobody_else_is_named() -> None:
    """``localhost`` leads inside, and the refusal names where."""
    with pytest.raises(OutboundRefused, match=r"localhost \(.*\) is loopback"):
        Outbound().check("http://localhost/")


@pytest.mark.parametrize("missing", ["urllib3", "idna"])
def test_without_the_extra_it_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is not there is named by its extra."""
    for name in [each for each in sys.modules if each.split(".")[0] == missing or each == "knhk.work._http_client"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(MissingExtra, match=r"knhk\[http\]"):
        if missing == "idna":
            Outbound().read("http://müller.example/")
        else:
            Outbound().request("GET", "http://8.8.8.8/")


def test_requests_of_many_threads_do_not_meet() -> None:
    """One policy serves all threads."""
    with Receiver(lambda got: Answer(body=got.path.encode())) as receiver:
        outbound, seen = near(receiver), []
        threads = [
            threading.Thread(
                target=lambda n=n: seen.append((n, outbound.request("GET", receiver.url(f"/{n}")).body.decode()))
            )
            for n in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted((n, f"/{n}") for n in range(16)) == sorted(seen)


def test_errors_say_whether_another_attempt_may_help() -> None:
    """What the policy refuses is refused again; what had no answer may have one later."""
    assert (False, True) == (OutboundRefused("no").retryable, OutboundFailed("late").retryable)
    assert issubclass(OutboundFailed, OutboundError)
