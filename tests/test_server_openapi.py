"""The description of the API: valid, whole, and what the service does; and the pages that tell of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import falcon
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from knhk.server import shapes
from knhk.server.examples import EXAMPLES, SPEC_AS_YAML
from knhk.server.health import NAME
from knhk.server.openapi import PREFIX, description
from knhk.server.operations import OPERATIONS
from knhk.server.problems import TITLES, URN
from knhk.server.rights import RIGHTS
from knhk.spec import Specification
from knhk.spec.yaml_text import read_yaml
from tests.served import served

DOCS = Path(__file__).parent.parent / "docs"
DOCUMENT = description("1.0.0")


def test_it_is_valid() -> None:
    """The description is OpenAPI 3.1."""
    assert [] == [each.message for each in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()]


def test_it_is_whole() -> None:
    """Every operation is described with its roles, its parameters, its errors, an example of its body, and how to say who asks."""
    described = {
        (method.upper(), path.removeprefix(PREFIX)): told
        for path, methods in DOCUMENT["paths"].items()
        if path.startswith(PREFIX)
        for method, told in methods.items()
    }

    assert {(each.method, each.path) for each in OPERATIONS} == set(described)
    for each in OPERATIONS:
        told = described[each.method, each.path]
        assert all(role in told["description"] for role in RIGHTS[each.name])
        assert {str(each.status), "401", "403", "404", "422", "429", "500", "503"} <= set(told["responses"])
        assert set(re.findall(r"\{(\w+)\}", each.path)) == {
            one["name"] for one in told["parameters"] if one["in"] == "path"
        }
        if each.takes is not None:
            assert "example" in told["requestBody"]["content"]["application/json"]
        answer = told["responses"][str(each.status)]
        assert (each.gives is not None) == ("content" in answer)
        assert each.gives is None or answer["content"]["application/json"]["example"]
    assert set(TITLES) == set(DOCUMENT["components"]["responses"])
    assert [{"bearer": []}] == DOCUMENT["security"]


@pytest.mark.parametrize("shape", EXAMPLES, ids=lambda each: each.__name__)
def test_example_is_right(shape: Any) -> None:
    """An example is what its shape says, no member more or less."""
    made = msgspec.convert(EXAMPLES[shape], type=shape, strict=True)

    assert EXAMPLES[shape].keys() <= set(shape.__struct_fields__)
    assert issubclass(shape, shapes.Body) or EXAMPLES[shape] == msgspec.to_builtins(made)


def test_example_in_yaml_is_that_in_json() -> None:
    """The workflow that is shown as YAML is the one that is shown as JSON."""
    shown = [read_yaml(SPEC_AS_YAML), EXAMPLES[shapes.RegisterWorkflow]["spec"]]

    assert 1 == len({Specification.from_dict(each).content_hash for each in shown})


def test_it_is_served() -> None:
    """It is served to anybody, with the version of the package."""
    with served() as service:
        answer = service.client.simulate_get("/openapi.json")

    assert ("3.1.0", "1.0.0") == (answer.json["openapi"], answer.json["info"]["version"])


def test_page_for_people() -> None:
    """Swagger UI is one page that loads nothing from anywhere, and its policy forbids it to."""
    with served() as service:
        answer = service.client.simulate_get("/swagger")

    assert "/openapi.json" in answer.text
    assert [] == re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"'](?!data:)[^\"']+", answer.text)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert falcon.HTTP_200 == answer.status


@pytest.mark.parametrize("path", ["/health", "/metrics", "/openapi.json", "/swagger", "/health/components"])
def test_pages_without_a_token_change_nothing(path: str) -> None:
    """What is open to all can only be read."""
    with served() as service:
        assert 200 == service.client.simulate_get(path).status_code
        for method in ("POST", "PUT", "DELETE"):
            answer = service.client.simulate_request(method, path)
            assert (405, "urn:knhk:problem:method-not-allowed") == (answer.status_code, answer.json["type"])


def test_figures() -> None:
    """The figures count calls by operation and status, and no label holds what a caller chose."""
    with served() as service:
        service.register()
        case = service.case()
        service.ask("GET", f"/cases/{case}", sub="somebody")
        service.ask("GET", "/cases/evil-name")
        service.ask("POST", "/patterns/1/execute", body={})
        text = service.client.simulate_get("/metrics").text

    assert 'knhk_requests_total{operation="case.get",status="200"} 1.0' in text
    assert 'knhk_requests_total{operation="case.get",status="404"} 1.0' in text
    assert 'knhk_pattern_seconds_count{pattern="1"} 1.0' in text
    assert not any(each in text for each in (case, "somebody", "evil-name"))


def table() -> list[str]:
    """The rows of the table of operations, as the page has them."""
    return [
        f"| `{each.method} {each.path}` | {each.summary.lower()[0].upper()}{each.summary[1:]} | {', '.join(sorted(RIGHTS[each.name] - {'admin'})) or '-'} |"
        for each in OPERATIONS
    ]


def test_the_reference_has_every_operation() -> None:
    """The page on the service has a row for each operation, with what it does and who may ask for it, and every problem."""
    page = (DOCS / "reference" / "service.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(?:GET|POST|DELETE) /.*\|$", page.partition("## At the root")[0], flags=re.MULTILINE)

    assert table() == rows
    assert [] == [kind for kind in TITLES if f"`{kind}`" not in page]
    assert URN in page
    assert NAME in page


def test_everything_is_json() -> None:
    """The description can be written as JSON, the same each time."""
    assert json.dumps(DOCUMENT) == json.dumps(description("1.0.0"))


def schema(name: str) -> Any:
    """A schema of the description."""
    return DOCUMENT["components"]["schemas"][name]


def test_unknown_members_are_described_as_refused() -> None:
    """Bodies are described as closed."""
    assert all(schema(each.takes.__name__)["additionalProperties"] is False for each in OPERATIONS if each.takes)
