"""Configuration: every variable changes what can be seen, a wrong value names its variable, an unknown one is warned of."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from knhk.server import configuration
from knhk.server.configuration import MASK, Configuration, ConfigurationError, load, variable
from knhk.server.serving import AUDIT_KEY_FILE, KEY_FILE, make
from tests.served import SECRET, served

ALL = {variable(each.name) for each in attrs.fields(Configuration)}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("API_PORT", ("abc", "-1", "65536", "1.5", "")),
        ("GRPC_PORT", ("x", "70000", "-1")),
        ("GRPC_REFLECTION", ("maybe",)),
        ("TRUST_DOMAIN", ("knhk.org", "spiffe://", "https://knhk.org")),
        ("RATE_LIMIT", ("0", "-1", "many", "nan", "inf")),
        ("DRAIN_TIMEOUT", ("0", "soon")),
        ("AUTH_ENABLED", ("maybe", "", "2")),
        ("AUDIT_ENABLED", ("maybe",)),
        ("RATE_LIMIT_ENABLED", ("maybe",)),
        ("FORTUNE5_ENABLED", ("maybe",)),
        ("INSECURE", ("maybe",)),
        ("SPIFFE_ENABLED", ("true", "maybe")),
        ("MULTI_REGION", ("true", "maybe")),
        ("DURABILITY", ("some", "")),
        ("JWT_ALGORITHM", ("none", "hs256", "HS512")),
        ("JWT_SECRET", ("short",)),
        ("JWT_SECRET_FILE", ("/nothing/here",)),
        ("JWT_PUBLIC_KEY_FILE", ("/nothing/here",)),
        ("JWT_JWKS_URL", ("https://id.example/keys",)),
        ("TLS_CERT", ("/nothing/here",)),
        ("TLS_KEY", ("/nothing/here",)),
        ("TLS_CLIENT_CA", ("/nothing/here",)),
        ("LOG_LEVEL", ("loud",)),
        ("RATE_LIMIT_OVERRIDES", ("ann=5", "acme/ann", "acme/ann=x", "acme/ann=0", "acme/ann=-1")),
    ],
)
def test_value_that_is_wrong(name: str, values: tuple[str, ...]) -> None:
    """A value that cannot be used is refused, and its variable named."""
    for value in values:
        with pytest.raises(ConfigurationError) as caught:
            load({f"WORKFLOW_{name}": value})
        assert any(f"WORKFLOW_{name}" in each for each in caught.value.findings), value


def test_every_wrong_value_is_named() -> None:
    """All that is wrong is told at once."""
    with pytest.raises(ConfigurationError) as caught:
        load({"WORKFLOW_API_PORT": "x", "WORKFLOW_RATE_LIMIT": "y", "WORKFLOW_DURABILITY": "z"})

    assert 3 == len(caught.value.findings)


def test_secret_is_not_told() -> None:
    """A secret that is refused is not shown in why, nor in the table."""
    with pytest.raises(ConfigurationError) as caught:
        load({"WORKFLOW_JWT_SECRET": "too-short-but-secret"})
    table = load({"WORKFLOW_JWT_SECRET": SECRET}).table()

    assert "too-short-but-secret" not in str(caught.value)
    assert ("WORKFLOW_JWT_SECRET", MASK, "WORKFLOW_JWT_SECRET") in table
    assert SECRET not in str(table)


def test_two_keys(tmp_path: Path) -> None:
    """Of several keys nobody could say which one counts."""
    (tmp_path / "key").write_text(SECRET)

    with pytest.raises(ConfigurationError, match="WORKFLOW_JWT_SECRET and WORKFLOW_JWT_SECRET_FILE"):
        load({"WORKFLOW_JWT_SECRET": SECRET, "WORKFLOW_JWT_SECRET_FILE": str(tmp_path / "key")})


def test_half_of_a_certificate(tmp_path: Path) -> None:
    """A certificate goes with its key, and a client CA with both."""
    (tmp_path / "pem").write_text("pem")

    with pytest.raises(ConfigurationError, match="WORKFLOW_TLS_CERT and WORKFLOW_TLS_KEY"):
        load({"WORKFLOW_TLS_CERT": str(tmp_path / "pem")})
    with pytest.raises(ConfigurationError, match="WORKFLOW_TLS_CLIENT_CA"):
        load({"WORKFLOW_TLS_CLIENT_CA": str(tmp_path / "pem")})


def test_enterprise_profile() -> None:
    """The enterprise profile lets what protects be off only where that is said by name."""
    named = load({"WORKFLOW_FORTUNE5_ENABLED": "true", "WORKFLOW_AUTH_ENABLED": "false"})

    assert any("WORKFLOW_AUTH_ENABLED" in each for each in named.warnings)
    assert load({"WORKFLOW_FORTUNE5_ENABLED": "true"}).settings.auth_enabled


def test_unknown_variable() -> None:
    """A variable of this prefix that the service does not know is warned of; others are others' business."""
    warnings = load({"WORKFLOW_API_PROT": "1", "KNHK_PORT": "1", "WORKFLOW_TOKEN": "a client's"}).warnings

    assert ["WORKFLOW_API_PROT"] == [each.split()[0] for each in warnings]


def test_origin_of_every_value() -> None:
    """Every setting is shown with the variable that gave it, or as a default."""
    rows = load({"WORKFLOW_REGION": "us-east-1"}).table()

    assert ALL == {name for name, _, _ in rows}
    assert {"WORKFLOW_REGION"} == {name for name, _, origin in rows if origin != "default"}


@pytest.mark.parametrize(
    ("environment", "warned"),
    [
        ({"WORKFLOW_API_HOST": "0.0.0.0"}, True),
        ({"WORKFLOW_API_HOST": "0.0.0.0", "WORKFLOW_INSECURE": "true"}, False),
        ({"WORKFLOW_API_HOST": "0.0.0.0", "WORKFLOW_AUTH_ENABLED": "false", "WORKFLOW_INSECURE": "true"}, True),
        ({"WORKFLOW_API_HOST": "127.0.0.1"}, False),
        ({"WORKFLOW_OTEL_ENDPOINT": "http://collector:4317"}, False),
        ({"WORKFLOW_AUDIT_ENABLED": "false"}, True),
        ({"WORKFLOW_RATE_LIMIT_ENABLED": "no"}, True),
    ],
)
def test_warnings(environment: dict[str, str], warned: bool) -> None:
    """What is allowed and should be known is warned of."""
    assert warned == bool(load(environment).warnings)


def test_the_reference_has_every_variable() -> None:
    """The page on configuration has a row for each variable, and for no other."""
    page = Path(__file__).parent.parent / "docs" / "reference" / "configuration.md"

    rows = re.findall(r"^\| `(WORKFLOW_[A-Z0-9_]+)`", page.read_text(encoding="utf-8"), flags=re.MULTILINE)

    assert ALL == set(rows)
    assert len(rows) == len(set(rows))


# --- what each variable changes -------------------------------------------------------------------------------------------


def test_state_path(tmp_path: Path) -> None:
    """The state directory is made, for its owner alone, and holds the store and the keys that were made."""
    path = tmp_path / "a" / "state"
    with served(state_path=str(path), jwt_secret="") as service:
        assert service.made.made_key == path / KEY_FILE
        assert {"knhk.db", KEY_FILE, AUDIT_KEY_FILE} <= {each.name for each in path.iterdir()}
        assert 0o700 == stat.S_IMODE(path.stat().st_mode)
        assert {0o600} == {stat.S_IMODE((path / each).stat().st_mode) for each in (KEY_FILE, AUDIT_KEY_FILE)}
        secret = (path / KEY_FILE).read_bytes()
    with served(state_path=str(path), jwt_secret="") as service:
        assert service.made.made_key is None
        assert secret == (path / KEY_FILE).read_bytes()


def test_state_path_that_cannot_be(tmp_path: Path) -> None:
    """A state directory that cannot be made is refused with its variable."""
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigurationError, match="WORKFLOW_STATE_PATH"):
        make(Configuration(state_path=str(tmp_path / "file" / "state")))


def test_trust_domain_is_shown() -> None:
    """The trust domain is shown, and that nothing uses it yet."""
    with served(trust_domain="spiffe://knhk.org") as service:
        parts = service.client.simulate_get("/health/components").json["components"]

    assert "spiffe://knhk.org" in parts["workload-identity"]["detail"]


@pytest.mark.parametrize("name", ["full", "normal", "off"])
def test_durability(name: str, tmp_path: Path) -> None:
    """The durability is the store's, and shown."""
    settings = load({"WORKFLOW_DURABILITY": name.upper()}).settings
    with served(state_path=str(tmp_path), durability=settings.durability) as service:
        parts = service.client.simulate_get("/health/components").json["components"]

    assert name == parts["durability"]["detail"]


def test_audit_enabled() -> None:
    """Without a record nobody can read one."""
    with served(audit_enabled=False) as service:
        assert 409 == service.ask("GET", "/audit").status_code
        assert 409 == service.ask("GET", "/audit/verify").status_code


def test_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules that are named register the handlers of every tenant; one that is not there is refused."""
    (tmp_path / "my_handlers.py").write_text(
        "def register(engine):\n"
        "    @engine.handler('greet')\n"
        "    def greet(work):\n"
        "        return {'greeting': 'hello ' + work.data['name']}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec = {
        "id": "greet",
        "tasks": {"a": {"handler": "greet"}},
        "flows": [{"from": "start", "to": "a"}, {"from": "a", "to": "end"}],
    }
    with served(handlers=" my_handlers ,") as service:
        for tenant in ("default", "acme"):
            service.register(spec, tenant=tenant)
            made = service.ask("POST", "/cases", body={"spec_id": "greet", "data": {"name": "ann"}}, tenant=tenant)
            done = service.ask("POST", f"/cases/{made.json['case_id']}/execute", tenant=tenant)
            assert ("completed", "hello ann") == (done.json["state"], done.json["data"]["greeting"])
    with pytest.raises(ConfigurationError, match="WORKFLOW_HANDLERS"):
        make(Configuration(state_path="memory:", handlers="no_such_module"))


def test_instance_and_region(caplog: pytest.LogCaptureFixture) -> None:
    """The instance is the writer of its chain of records; the region is in its figures and its health."""
    with served(instance_id="engine-1", region="us-east-1") as service:
        service.ask("GET", "/cases")
        heads = service.ask("GET", "/audit/verify").json["heads"]
        parts = service.client.simulate_get("/health/components").json
        figures = service.client.simulate_get("/metrics").text

    assert ["engine-1"] == list(heads)
    assert ("engine-1", "us-east-1") == (parts["instance"], parts["region"])
    assert 'knhk_instance_info{instance="engine-1",region="us-east-1"' in figures


def run(*arguments: str, **environment: str) -> Any:
    """Run the command."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WORKFLOW_")}
    return subprocess.run(
        [sys.executable, "-m", "knhk", *arguments],
        env={**clean, "COLUMNS": "200", **{f"WORKFLOW_{name}": value for name, value in environment.items()}},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_config_command() -> None:
    """`knhk config` prints every setting with its origin, as a table or as JSON, and refuses what is wrong by name."""
    told = run("config", API_PORT="9999", JWT_SECRET=SECRET)
    tree = json.loads(run("config", "--json", API_PORT="9999").stdout)
    wrong = run("config", API_PORT="x")

    assert 0 == told.returncode
    assert SECRET not in told.stdout
    assert MASK in told.stdout
    assert {"value": "9999", "from": "WORKFLOW_API_PORT"} == tree["WORKFLOW_API_PORT"]
    assert ALL == set(tree)
    assert (2, True) == (wrong.returncode, "WORKFLOW_API_PORT" in wrong.stderr)


def test_serve_command_refuses() -> None:
    """`knhk serve` does not start with what is wrong, and names it."""
    wrong = run("serve", SPIFFE_ENABLED="true", STATE_PATH="memory:")

    assert 2 == wrong.returncode
    assert "WORKFLOW_SPIFFE_ENABLED" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_token_command(tmp_path: Path) -> None:
    """`knhk token` signs with the secret of the service that is configured, and refuses roles that there are not."""
    made = run("token", "--role", "viewer", "--subject", "bob", JWT_SECRET=SECRET)
    with served() as service:
        assert 200 == service.ask("GET", "/cases", bearer=made.stdout.strip()).status_code
        assert 403 == service.ask("POST", "/cases", body={}, bearer=made.stdout.strip()).status_code

    assert 2 == run("token", "--role", "root", JWT_SECRET=SECRET).returncode
    assert 2 == run("token", JWT_SECRET=SECRET).returncode
    assert 0 != run("token", "--role", "viewer", STATE_PATH=str(tmp_path)).returncode


def test_no_variable_is_read_elsewhere() -> None:
    """The service reads its environment in one place."""
    package = Path(configuration.__file__).parent

    assert [] == [
        each.name
        for each in package.glob("*.py")
        if "os.environ" in each.read_text(encoding="utf-8") or "getenv" in each.read_text(encoding="utf-8")
    ]
