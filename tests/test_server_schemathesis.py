"""Whatever the description allows, and much that it does not, is answered as it says, and never with an error of the service."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from knhk.server.configuration import Configuration
from knhk.server.serving import make
from tests.served import ORDER, SECRET, Served, token

MADE = make(Configuration(state_path="memory:", jwt_secret=SECRET, rate_limit=1e6, instance_id="one"))
SERVED = Served(MADE)
SERVED.register(ORDER)
SERVED.case()
SCHEMA = schemathesis.openapi.from_wsgi("/openapi.json", MADE.wsgi).exclude(
    path_regex="^/(health|metrics|swagger|openapi)"
)


@SCHEMA.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_described(case: schemathesis.Case) -> None:
    """Every operation answers generated requests with a described status, type and body."""
    case.call_and_validate(
        headers={"Authorization": f"Bearer {token()}"},
        checks=[not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance],
    )
