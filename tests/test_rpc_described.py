"""gRPC as strangers use it: with nothing but the published description, or with what the service says of itself."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc

from knhk.rpc import PROTO, SERVICE
from knhk.server.rights import RIGHTS
from knhk.server.rpc.methods import METHODS
from knhk.server.rpc.statuses import _CODE
from tests.rpc import Called, called, refusal
from tests.served import token

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "grpc.md"
REFERENCE = Path(__file__).parent.parent / "docs" / "reference" / "grpc.md"


def described(directory: Path) -> descriptor_pool.DescriptorPool:
    """What the published file describes, in a pool of its own that knows nothing else."""
    found = directory / "described.pb"
    assert 0 == protoc.main(["protoc", f"-I{PROTO.parent}", f"--descriptor_set_out={found}", PROTO.name])
    pool = descriptor_pool.DescriptorPool()
    for each in descriptor_pb2.FileDescriptorSet.FromString(found.read_bytes()).file:
        pool.Add(each)
    return pool


def grpcurl(command: str, channel: grpc.Channel, pool: descriptor_pool.DescriptorPool) -> dict[str, Any]:
    """Do what this command line does: JSON in, JSON out, by nothing but descriptors."""
    words = shlex.split(command)
    metadata, said = [], "{}"
    while words[0] != "localhost:9090":
        word = words.pop(0)
        if word == "-H":
            name, _, value = words.pop(0).partition(": ")
            metadata.append((name, value.replace("<token>", token())))
        elif word == "-d":
            said = words.pop(0)
        elif word == "-proto":
            assert PROTO.name == words.pop(0)
        else:
            assert word in ("grpcurl", "-plaintext")
    service, method = words[1].split("/")
    found = pool.FindServiceByName(service).methods_by_name[method]
    asked = json_format.Parse(said, message_factory.GetMessageClass(found.input_type)())
    raw = channel.unary_unary(f"/{service}/{method}")(asked.SerializeToString(), metadata=metadata, timeout=20)
    given = message_factory.GetMessageClass(found.output_type).FromString(raw)
    return dict(json_format.MessageToDict(given, preserving_proto_field_name=True))


def commands() -> list[str]:
    """The command lines of the page."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(r"^grpcurl .*$", text, re.MULTILINE)


def test_the_commands_of_the_page(tmp_path: Path) -> None:
    """Each command on the page is right: by the published description where it names that, else by what the service says of itself."""
    shown = commands()
    with called(grpc_reflection=True) as service:
        published = described(tmp_path)
        own = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(service.channel))
        answers = [grpcurl(each, service.channel, published if "-proto" in each else own) for each in shown]

    registered, case, run, items, health = answers
    assert ("greeting", "sound") == (registered["spec_id"], registered["soundness"]["verdict"])
    assert ("running", {"input": "value"}) == (case["state"], json.loads(case["data"]))
    assert "completed" == run["outcome"]
    assert [case["case_id"]] == [each["case_id"] for each in items["items"]]
    assert {"status": "SERVING"} == health


def test_reflection_is_off_by_default() -> None:
    """Without its variable the service does not describe itself."""
    with called() as service:
        database = ProtoReflectionDescriptorDatabase(service.channel)
        with pytest.raises(grpc.RpcError) as refused:
            database.get_services()

    assert grpc.StatusCode.UNIMPLEMENTED == refused.value.code()


def test_the_description_stands_alone() -> None:
    """The published file imports nothing, so that one file is all that a client needs."""
    assert "import " not in re.sub(r"//.*", "", PROTO.read_text(encoding="utf-8"))
    assert health_pb2.DESCRIPTOR.package != SERVICE.rpartition(".")[0]


def test_the_reference_has_every_method_and_code() -> None:
    """The page names each method with its roles, and each problem beside its status code."""
    text = REFERENCE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| ([a-z, ]*) \|$", text, re.MULTILINE))
    codes = {name: line for line in text.splitlines() for name in re.findall(r"^\| `([A-Z_]+)` \|", line)}

    assert {each.name: ", ".join(sorted(RIGHTS[each.operation.name] - {"admin"})) for each in METHODS.values()} == rows
    assert {code.name for code in _CODE.values()} | {"ABORTED"} == set(codes)
    assert [] == [kind for kind, code in _CODE.items() if f"`{kind}`" not in codes[code.name]]
