"""gRPC with one server of an etcd cluster: when a call was surely not sent, and when nobody knows what became of it."""

from __future__ import annotations

import ssl
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final, TypeVar

import attrs

from knhk.stores._etcd_messages import STATUS, Message, Method, api, grpc

_Answer = TypeVar("_Answer", bound=Message)

_OPTIONS: Final = (
    # etcd has limits of its own.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A new channel is a new connection, whatever became of the one before.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
)
# A server, or what is in front of it, gave up on a call that it may have passed on, or something broke on the way.
_UNANSWERED: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    }
)
_NOT_CONNECTED: Final = "failed to connect to all addresses"
"""How gRPC begins to say that it had no connection to send a call on."""


class Unsent(Exception):
    """The server has not been reached, so that nothing can have been done."""


class Refused(Exception):
    """
    What a server, or gRPC, said instead of an answer.

    Attributes:
        said: in its words.
        judged: whether it is the server's judgement of the call; otherwise it is not known whether the call was done.
    """

    def __init__(self, said: str, *, judged: bool) -> None:
        super().__init__(said)
        self.said, self.judged = said, judged


@attrs.frozen
class Security:
    """
    How it is made sure who a server is.

    Args:
        credentials: for gRPC.
        context: for HTTP.
    """

    credentials: grpc.ChannelCredentials
    context: ssl.SSLContext


class Server:
    """
    One server, to which there is a channel from the first call on, and another after a call that got no answer.

    Any thread may call it, but no process that was forked since the first call.

    Args:
        host, port: where it is.
        timeout: seconds that a call waits for its answer.
        security: None: it is not made sure who it is, and everybody on the way can read.

    Attributes:
        token: who is logged in, or "".
    """

    def __init__(self, host: str, port: int, timeout: float, security: Security | None) -> None:
        self._host, self._port, self._timeout = host, port, timeout
        self._security = security
        self._channel: grpc.Channel | None = None
        self._closed = False
        self.token = ""

    def call(self, method: Method[_Answer], message: Message) -> _Answer:
        """Call a method; raises Unsent or Refused."""
        channel = self._channel or self._connected()
        try:
            return self._answer(channel, method, message)
        except Refused as error:
            if not error.judged and self._channel is channel:
                # It goes with the last call that still uses it; another does not wait until this one tries again.
                self._channel = None
            if error.said.startswith(_NOT_CONNECTED):
                raise Unsent(error.said) from error
            raise

    def metrics(self) -> bytes | None:
        """Return the figures that the server tells of itself, or None where it does not."""
        if self._security is None:
            line = HTTPConnection(self._host, self._port, timeout=self._timeout)
        else:
            line = HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._security.context)
        try:
            line.request("GET", "/metrics")
            said = line.getresponse()
            return said.read() if said.status == HTTPStatus.OK else None
        except (OSError, HTTPException):
            return None
        finally:
            line.close()

    def close(self) -> None:
        """Close the channel."""
        self._closed = True
        if self._channel is not None:
            self._channel.close()

    def _connected(self) -> grpc.Channel:
        """Return a new channel on which the server has answered: until it has, nothing else was sent."""
        target = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        if self._security is None:
            channel = grpc.insecure_channel(target, _OPTIONS)
        else:
            channel = grpc.secure_channel(target, self._security.credentials, _OPTIONS)
        try:
            self._answer(channel, STATUS, api.StatusRequest())
        except Refused as error:
            if not error.judged:
                channel.close()
                raise Unsent(error.said) from error
        # Of several that connect at the same time one channel stays.
        self._channel = channel
        if self._closed:
            channel.close()
        return channel

    def _answer(self, channel: grpc.Channel, method: Method[_Answer], message: Message) -> _Answer:
        ask = channel.unary_unary(
            f"/etcdserverpb.{method.name}",
            request_serializer=type(message).SerializeToString,
            response_deserializer=method.answer.FromString,
        )
        try:
            answer: _Answer = ask(message, self._timeout, (("token", self.token),) if self.token else None)
        except grpc.RpcError as error:
            raise Refused(error.details() or "", judged=error.code() not in _UNANSWERED) from error
        except ValueError as error:
            # So it says that the channel was closed meanwhile.
            raise Unsent(str(error)) from error
        return answer
