"""gRPC in a process of its own: the port that is said, workers, TLS with client certificates, traces, and the end in order."""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from knhk.rpc import workflow_engine_pb2 as messages
from knhk.rpc.workflow_engine_pb2_grpc import WorkflowEngineServiceStub
from knhk.server.configuration import Configuration, ConfigurationError
from knhk.server.rpc.listening import Reservation
from knhk.server.serving import make
from tests.collector import over_grpc
from tests.rpc import called, registered
from tests.served import ORDER, SECRET, served, token
from tests.test_server_serving import Process, process
from tests.test_server_spans import PARENT, TRACE
from tests.test_server_tls import Files

METADATA = [("authorization", f"Bearer {token()}")]


def told(made: Process) -> str:
    """Where a process says that it serves gRPC."""
    end = time.monotonic() + 30
    while (match := re.search(r"serving gRPC on (\S+)", made.text())) is None:
        assert time.monotonic() < end, made.text()
        time.sleep(0.01)
    return match[1]


@contextmanager
def calling(made: Process, credentials: grpc.ChannelCredentials | None = None) -> Iterator[WorkflowEngineServiceStub]:
    """A stub for a process, by the address that it has told."""
    address = told(made)
    channel = grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials)
    with channel:
        yield WorkflowEngineServiceStub(channel)


def created(stub: WorkflowEngineServiceStub) -> str:
    """A case that has been started."""
    asked = messages.CreateCaseRequest(spec_id="order", start=True)
    return str(stub.CreateCase(asked, metadata=METADATA, timeout=30).case_id)


def test_a_process_of_several_workers(tmp_path: Path) -> None:
    """The port that was picked is told; workers serve it together, what one did the others know, and at SIGTERM all end in order."""
    with process(tmp_path / "s", arguments=("--workers", "2"), GRPC_PORT="0", DRAIN_TIMEOUT="8") as made:
        made.ask("POST", "/api/v1/workflows", {"spec": ORDER})
        with calling(made) as one, calling(made) as other:
            stream = one.WatchCase(messages.WatchCaseRequest(case_id=created(other)), metadata=METADATA, timeout=60)
            assert "case_created" == next(stream).kind
            assert 0 == made.end()
            with pytest.raises(grpc.RpcError) as ended:
                list(stream)
    assert grpc.StatusCode.UNAVAILABLE == ended.value.code()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Certificates."""
    return Files(tmp_path_factory.mktemp("certificates"))


def client(files: Files, authority: trustme.CA | None, **more: Any) -> grpc.ChannelCredentials:
    """What a client trusts, and with an authority his own certificate."""
    trusted = files.authority.cert_pem.bytes()
    if authority is None:
        return grpc.ssl_channel_credentials(trusted)
    mine = authority.issue_cert("client@example.org", **more)
    chain = b"".join(each.bytes() for each in mine.cert_chain_pems)
    return grpc.ssl_channel_credentials(trusted, mine.private_key_pem.bytes(), chain)


def test_mutual_tls(files: Files, tmp_path: Path) -> None:
    """Whoever has a certificate of the right authority that still counts, and a token, is served; strangers do not come as far as a call."""
    clients = {"TLS_CLIENT_CA": str(files.directory / "clients.pem"), "GRPC_PORT": "0", "DRAIN_TIMEOUT": "5"}
    spec = messages.RegisterWorkflowRequest(spec=json.dumps(ORDER))
    with process(tmp_path / "s", **files.environment, **clients) as made:
        with calling(made, client(files, files.clients)) as stub:
            # The parent of the workers says the port; a worker opens it a moment later.
            done = stub.RegisterWorkflow(spec, metadata=METADATA, timeout=30, wait_for_ready=True)
            assert "order" == done.spec_id
            with pytest.raises(grpc.RpcError) as nobody:
                stub.RegisterWorkflow(spec, timeout=30)
            assert grpc.StatusCode.UNAUTHENTICATED == nobody.value.code()
        past = datetime.now(UTC) - timedelta(days=1)
        strangers = (
            client(files, None),
            client(files, trustme.CA()),
            client(files, files.authority),
            client(files, files.clients, not_before=past - timedelta(days=1), not_after=past),
            None,
        )
        for each in strangers:
            with calling(made, each) as stub, pytest.raises(grpc.RpcError) as refused:
                stub.RegisterWorkflow(spec, metadata=METADATA, timeout=30)
            assert grpc.StatusCode.UNAVAILABLE == refused.value.code()
        host, _, port = told(made).rpartition(":")
        with pytest.warns(DeprecationWarning), pytest.raises(ssl.SSLError):
            old = files.context(files.clients)
            old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
            old.maximum_version = ssl.TLSVersion.TLSv1_1
            old.set_ciphers("DEFAULT:@SECLEVEL=0")
            old.wrap_socket(socket.create_connection((host, int(port)), timeout=10), server_hostname=host)
        assert 0 == made.end()


def test_tls_without_client_certificates(files: Files) -> None:
    """Without an authority for clients everybody who trusts the service is spoken to, in TLS alone."""
    paths = {name.lower(): path for name, path in files.environment.items()}
    with served(grpc_port=0, **paths) as service:
        service.made.rpc.listen()
        service.made.rpc.start()
        address = f"127.0.0.1:{service.made.rpc.port}"
        with grpc.secure_channel(address, client(files, None)) as channel:
            stub = WorkflowEngineServiceStub(channel)
            assert not stub.ListCases(messages.ListCasesRequest(), metadata=METADATA, timeout=30).items
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
            WorkflowEngineServiceStub(channel).ListCases(messages.ListCasesRequest(), metadata=METADATA, timeout=30)


def test_spans_and_figures() -> None:
    """A call is a span in its caller's trace, above that of the case, and is counted as one over REST is."""
    with over_grpc() as collected, called(otel_endpoint=collected.endpoint) as service:
        service.made.exporting.start()
        registered(service)
        service.call("CreateCase", spec_id="order", metadata=service.metadata(traceparent=PARENT))
        service.refused("GetCase", case_id="nothing", metadata=service.metadata(traceparent=PARENT))
        service.refused_raw(
            "/knhk.workflow_engine.v1.WorkflowEngineService/None", b"", service.metadata(traceparent=PARENT)
        )
        service.made.exporting.flush()
        counted = service.service.client.simulate_get("/metrics").text

    named = {each.name.rpartition("Service/")[2]: each for each in collected.spans if each.trace_id.hex() == TRACE}
    codes = {
        name: value.value.int_value
        for name, each in named.items()
        for value in each.attributes
        if value.key == "rpc.grpc.status_code"
    }
    assert {"CreateCase": 0, "GetCase": 5, "knhk.workflow_engine.v1.WorkflowEngineService": 12} == codes
    assert "00f067aa0ba902b7" == named["CreateCase"].parent_span_id.hex()
    assert named["CreateCase"].span_id == named["case create"].parent_span_id
    assert 'knhk_requests_total{operation="case.create",status="201"} 1.0' in counted


@pytest.mark.parametrize("alone", [True, False])
def test_a_port_that_is_taken(alone: bool) -> None:
    """A port that somebody else has refuses the start by the names of its variables."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Configuration(
            state_path="memory:", jwt_secret=SECRET, grpc_port=taken.getsockname()[1], instance_id="one"
        )
        with pytest.raises(ConfigurationError, match="WORKFLOW_API_HOST, WORKFLOW_GRPC_PORT: cannot listen on 127"):
            if alone:
                made = make(settings)
                try:
                    made.rpc.listen()
                finally:
                    made.close()
            else:
                Reservation(settings)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its libraries are not installed, a port for gRPC refuses the start and says how to install them; without a port nothing is missed."""
    for name in [each for each in sys.modules if each.startswith(("knhk.server.rpc", "knhk.rpc."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.setitem(sys.modules, "google.protobuf", None)

    with pytest.raises(ConfigurationError, match=r"WORKFLOW_GRPC_PORT: .*pip install 'knhk\[grpc\]'"):
        make(Configuration(state_path="memory:", jwt_secret=SECRET, grpc_port=0))
    make(Configuration(state_path="memory:", jwt_secret=SECRET)).close()
