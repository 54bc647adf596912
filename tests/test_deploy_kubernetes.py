"""The manifests: valid for Kubernetes 1.24 and after, at one with each other, and with the service that they start."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import pytest

from knhk.server.configuration import Configuration, ConfigurationError, Loaded, load
from tests.deployment import KUBERNETES, image_environment, in_image
from tests.kustomize import build, containers, documents
from tests.served import Served, served

OVERLAYS = ("embedded", "shared", "monitoring")
WAYS = ("embedded", "shared")
VERSIONS = ("1.24", "1.33")
"""The oldest cluster that is served, and the newest whose schemas are at hand."""

NAME = "app.kubernetes.io/name"

_LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
_DURATION = {"type": "string", "pattern": r"^(([0-9]+)(ms|s|m|h))+$"}


def _closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


_RULE = _closed(
    ["alert", "expr"],
    alert={"type": "string", "pattern": "^[A-Z][A-Za-z]+$"},
    expr={"type": "string", "minLength": 1},
    **{"for": _DURATION, "keep_firing_for": _DURATION, "labels": _LABELS, "annotations": _LABELS},
)
_ENDPOINT = _closed(["port"], port={"type": "string"}, path={"type": "string", "pattern": "^/"})
_ENDPOINT["properties"] |= {"interval": _DURATION, "scrapeTimeout": _DURATION, "scheme": {"enum": ["http", "https"]}}
CUSTOM = {
    "PrometheusRule": _closed(
        ["groups"],
        groups={
            "type": "array",
            "minItems": 1,
            "items": _closed(
                ["name", "rules"], name={"type": "string"}, interval=_DURATION, rules={"type": "array", "items": _RULE}
            ),
        },
    ),
    "ServiceMonitor": _closed(
        ["selector", "endpoints"],
        jobLabel={"type": "string"},
        selector=_closed([], matchLabels=_LABELS),
        namespaceSelector=_closed([], matchNames={"type": "array", "items": {"type": "string"}}),
        endpoints={"type": "array", "minItems": 1, "items": _ENDPOINT},
    ),
}
"""What the Prometheus operator reads of its two kinds (monitoring.coreos.com/v1), as far as it is used here, and nothing else."""


def problems(resource: Mapping[str, Any], version: str) -> Iterator[str]:
    """What is wrong with a resource in a version of Kubernetes."""
    kind = resource["kind"]
    if kind in CUSTOM:
        whole = _closed(
            ["apiVersion", "kind", "metadata", "spec"],
            apiVersion={"const": "monitoring.coreos.com/v1"},
            kind={"const": kind},
            metadata=_closed(["name"], name={"type": "string"}, namespace={"type": "string"}, labels=_LABELS),
            spec=CUSTOM[kind],
        )
        yield from (each.message for each in jsonschema_rs.iter_errors(whole, resource))
        return
    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield error.message
    except kubernetes_validate.SchemaNotFoundError as error:
        yield error.message


@pytest.fixture(scope="module")
def overlays() -> dict[str, list[dict[str, Any]]]:
    """Every overlay, built."""
    return {name: build(KUBERNETES / name) for name in OVERLAYS}


def only(resources: list[dict[str, Any]], kind: str, name: str = "knhk") -> dict[str, Any]:
    """The one resource of a kind and name."""
    (found,) = [each for each in resources if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def pod_of(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """The pods that an overlay makes."""
    return dict(only(resources, "StatefulSet")["spec"]["template"]["spec"])


def container_of(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """Their container."""
    (found,) = containers(only(resources, "StatefulSet"))
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_valid(name: str, version: str, overlays: dict[str, list[dict[str, Any]]]) -> None:
    """Kubernetes of the oldest and the newest version knows every resource and every member of it."""
    assert [] == [(each["kind"], problem) for each in overlays[name] for problem in problems(each, version)]


@pytest.mark.parametrize("path", sorted(KUBERNETES.glob("*.example.yaml")), ids=lambda path: path.stem)
def test_an_example_is_valid(path: Path) -> None:
    """What is to be filled in is a resource all the same."""
    assert [] == [problem for each in documents(path) for version in VERSIONS for problem in problems(each, version)]


def test_what_is_not_valid_is_found(overlays: dict[str, list[dict[str, Any]]]) -> None:
    """A member that is not known, one of a wrong type, and a kind that a version lacks are found."""
    misspelt = copy.deepcopy(only(overlays["shared"], "StatefulSet"))
    misspelt["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    wrong = copy.deepcopy(only(overlays["shared"], "HorizontalPodAutoscaler"))
    wrong["spec"]["minReplicas"] = "three"
    older = only(overlays["shared"], "HorizontalPodAutoscaler") | {"apiVersion": "autoscaling/v2beta1"}
    rule = copy.deepcopy(only(overlays["monitoring"], "PrometheusRule"))
    rule["spec"]["groups"][0]["rules"][0]["form"] = "1m"

    assert [1, 1, 1, 1] == [len(list(problems(each, VERSIONS[1]))) for each in (misspelt, wrong, older, rule)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nameSuffix: -x", "not known here"),
        ("patches: [{path: p.yaml, target: {kind: Pod}}]", "only a path"),
        ("patches: [{path: p.yaml}]", "0 resources"),
        ("images: [{name: knhk, digest: x}]", "newTag"),
        ("configMapGenerator: [{name: c, files: [p.yaml]}]", "hash"),
        ("resources: [p.yaml]\npatches: [{path: q.yaml}]", "takes something away"),
    ],
)
def test_what_the_builder_does_not_know_it_refuses(text: str, why: str, tmp_path: Path) -> None:
    """An overlay that uses more of Kustomize than is built here fails, rather than be built wrongly."""
    (tmp_path / "kustomization.yaml").write_text(f"kind: Kustomization\n{text}\n")
    (tmp_path / "p.yaml").write_text("kind: Pod\nmetadata: {name: p}\nspec: {a: 1}\n")
    (tmp_path / "q.yaml").write_text("kind: Pod\nmetadata: {name: p}\nspec: {a: null}\n")

    with pytest.raises(ValueError, match=why):
        build(tmp_path)


@pytest.mark.parametrize("name", WAYS)
def test_pods_have_no_right_that_they_do_not_need(name: str, overlays: dict[str, list[dict[str, Any]]]) -> None:
    """Pods are nobody special, write nowhere but to volumes, have no token of the cluster, and no role."""
    pod, container = pod_of(overlays[name]), container_of(overlays[name])
    user = pod["securityContext"]

    assert (True, 10001, 10001) == (user["runAsNonRoot"], user["runAsUser"], user["fsGroup"])
    assert {"type": "RuntimeDefault"} == user["seccompProfile"]
    assert {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    } == container["securityContext"]
    assert (False, False) == (pod["automountServiceAccountToken"], pod["enableServiceLinks"])
    assert only(overlays[name], "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] == only(overlays[name], "ServiceAccount")["metadata"]["name"]
    assert not [each for each in overlays[name] if "Role" in each["kind"]]
    assert {"requests", "limits"} == container["resources"].keys()
    labels = only(overlays[name], "Namespace")["metadata"]["labels"]
    assert "restricted" == labels["pod-security.kubernetes.io/enforce"]


@pytest.mark.parametrize("name", WAYS)
def test_an_image_has_a_version(name: str, overlays: dict[str, list[dict[str, Any]]]) -> None:
    """Every image is of a stated version."""
    images = [each["image"] for resource in overlays[name] for each in containers(resource)]

    assert ["registry.example.com/knhk:1.0.0"] == images


@pytest.fixture(scope="module")
def service() -> Iterator[Served]:
    """A served instance, whose routes are looked at."""
    with served() as made:
        yield made


def is_route(service: Served, path: str) -> bool:
    """Whether the service has something at a path, or below it."""
    below = {"/api": "/api/v1/cases"}.get(path, path)
    return service.client.simulate_get(below).status_code != 404


def test_what_is_asked_is_a_route(service: Served, overlays: dict[str, list[dict[str, Any]]]) -> None:
    """The paths of the probes, of the figures and of the ingress are routes, and the ingress leaves out the figures."""
    container = container_of(overlays["shared"])
    probes = [container[f"{each}Probe"]["httpGet"]["path"] for each in ("startup", "liveness", "readiness")]
    figures = [each["path"] for each in only(overlays["monitoring"], "ServiceMonitor")["spec"]["endpoints"]]
    (ingress,) = documents(KUBERNETES / "ingress.example.yaml")
    inside = [each["path"] for each in ingress["spec"]["rules"][0]["http"]["paths"]]

    assert ["/health/live", "/health/live", "/health/ready"] == probes
    assert ["/metrics"] == figures
    assert [] == [path for path in (*probes, *figures, *inside) if not is_route(service, path)]
    assert not is_route(service, "/nothing")
    assert "/metrics" not in inside


def test_ports_are_one(overlays: dict[str, list[dict[str, Any]]]) -> None:
    """The image, the settings, the container, both services, the policy, the monitor and the ingress mean the same ports."""
    everything = overlays["shared"]
    settings = only(everything, "ConfigMap")["data"]
    ports = {"http": int(settings["WORKFLOW_API_PORT"]), "grpc": int(settings["WORKFLOW_GRPC_PORT"])}
    container = container_of(everything)
    services = [each["spec"]["ports"] for each in everything if each["kind"] == "Service"]
    (ingress,) = documents(KUBERNETES / "ingress.example.yaml")
    backends = [each["backend"]["service"] for each in ingress["spec"]["rules"][0]["http"]["paths"]]
    allowed = only(everything, "NetworkPolicy")["spec"]["ingress"][0]["ports"]

    assert ports == {each["name"]: each["containerPort"] for each in container["ports"]}
    assert " ".join(map(str, ports.values())) == in_image("EXPOSE")[0].text
    assert [[(name, number, name) for name, number in ports.items()]] * 2 == [
        [(each["name"], each["port"], each["targetPort"]) for each in of_service] for of_service in services
    ]
    assert list(ports.values()) == [each["port"] for each in allowed]
    assert {"http"} == {container[f"{each}Probe"]["httpGet"]["port"] for each in ("startup", "liveness", "readiness")}
    assert all(each == {"name": "knhk", "port": {"name": "http"}} for each in backends)
    assert ["http"] == [each["port"] for each in only(overlays["monitoring"], "ServiceMonitor")["spec"]["endpoints"]]


@pytest.mark.parametrize("name", WAYS)
def test_selectors_find_the_pods(name: str, overlays: dict[str, list[dict[str, Any]]]) -> None:
    """Whatever selects pods selects these, everything is in one namespace, and what is named is there."""
    everything = overlays[name]
    workload = only(everything, "StatefulSet")["spec"]
    labels = workload["template"]["metadata"]["labels"]
    selected = [workload["selector"]["matchLabels"]]
    selected += [each["spec"]["selector"] for each in everything if each["kind"] == "Service"]
    selected += [each["spec"]["podSelector"]["matchLabels"] for each in everything if each["kind"] == "NetworkPolicy"]
    selected += [only(everything, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
    spread = workload["template"]["spec"]["topologySpreadConstraints"]
    selected += [each["labelSelector"]["matchLabels"] for each in spread]

    assert {"topology.kubernetes.io/zone", "kubernetes.io/hostname"} == {each["topologyKey"] for each in spread}
    assert [] == [each for each in selected if not each.items() <= labels.items()]
    assert {only(everything, "Namespace")["metadata"]["name"]} == {
        each["metadata"]["namespace"] for each in everything if each["kind"] != "Namespace"
    }
    assert only(everything, "Service", workload["serviceName"])["spec"]["clusterIP"] == "None"
    assert [only(everything, "ConfigMap")["metadata"]["name"]] == [
        each["configMapRef"]["name"] for each in container_of(everything)["envFrom"]
    ]
    volumes = {each["name"] for each in pod_of(everything)["volumes"]}
    volumes |= {each["metadata"]["name"] for each in workload.get("volumeClaimTemplates", ())}
    assert volumes == {each["name"] for each in container_of(everything)["volumeMounts"]}


def test_the_monitor_scrapes_each_instance_once(overlays: dict[str, list[dict[str, Any]]]) -> None:
    """The monitor selects one of the two services, and the job has the name that rules and dashboard ask for."""
    wanted = only(overlays["monitoring"], "ServiceMonitor")["spec"]["selector"]["matchLabels"].items()
    services = [each for each in overlays["shared"] if each["kind"] == "Service"]
    rules = only(overlays["monitoring"], "PrometheusRule")["spec"]["groups"][0]["rules"]

    found = [each["metadata"]["name"] for each in services if wanted <= each["metadata"]["labels"].items()]
    assert ["knhk"] == found
    assert {"knhk"} == {job for each in rules for job in re.findall(r'job="([^"]*)"', each["expr"])}


def environment(resources: list[dict[str, Any]], keys: Path, **secret: str) -> dict[str, str]:
    """What the container of an overlay is told, with a pod's name, these secrets, and the keys in a directory."""
    found = {**image_environment()}
    found |= only(resources, "ConfigMap")["data"]
    for each in container_of(resources)["env"]:
        source = each.get("valueFrom", {})
        if "fieldRef" in source:
            assert {"fieldPath": "metadata.name"} == source["fieldRef"]
            found[each["name"]] = "knhk-0"
        elif "secretKeyRef" in source:
            found[each["name"]] = secret[source["secretKeyRef"]["key"].replace("-", "_")]
        else:
            found[each["name"]] = each["value"]
    return {name: value.replace("/etc/knhk/", f"{keys}/") for name, value in found.items()}


def configured(resources: list[dict[str, Any]], keys: Path, store: str) -> Loaded:
    """The configuration of an overlay's instance, with keys of the usual length."""
    for each in pod_of(resources)["volumes"]:
        for item in each.get("secret", {}).get("items", ()):
            (keys / item["path"]).write_text("k" * 64)
    return load(environment(resources, keys, store_url=store))


STORES = ("postgresql://knhk:secret@db/knhk", "rediss://:secret@cache/0", "etcds://etcd:2379")


@pytest.mark.parametrize("store", STORES)
def test_instances_share_a_store(store: str, tmp_path: Path, overlays: dict[str, list[dict[str, Any]]]) -> None:
    """With any of the stores what `shared` says can be used, without a warning: one of at least three, named as its pod."""
    shared = overlays["shared"]
    loaded = configured(shared, tmp_path, store)
    scaler = only(shared, "HorizontalPodAutoscaler")["spec"]

    assert () == loaded.warnings
    assert (True, "knhk-0", store) == (loaded.settings.shares, loaded.settings.instance_id, loaded.settings.store)
    assert (3, True) == (scaler["minReplicas"], scaler["maxReplicas"] > 3)
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "knhk"}
    assert {"replicas", "volumeClaimTemplates"}.isdisjoint(only(shared, "StatefulSet")["spec"])
    assert 1 == only(shared, "PodDisruptionBudget")["spec"]["maxUnavailable"]


def test_an_embedded_store_is_one_instance_s(tmp_path: Path, overlays: dict[str, list[dict[str, Any]]]) -> None:
    """`embedded` is one replica with a volume of its own where the store is, nothing scales it, and a drained node lets it go."""
    embedded = overlays["embedded"]
    loaded = configured(embedded, tmp_path, "")
    workload = only(embedded, "StatefulSet")["spec"]
    (claim,) = workload["volumeClaimTemplates"]
    mounted = {each["name"]: each["mountPath"] for each in container_of(embedded)["volumeMounts"]}

    assert () == loaded.warnings
    assert (1, False) == (workload["replicas"], loaded.settings.shares)
    assert loaded.settings.state_path == mounted[claim["metadata"]["name"]]
    assert ["ReadWriteOnce"] == claim["spec"]["accessModes"]
    assert [] == [each for each in embedded if each["kind"] == "HorizontalPodAutoscaler"]
    assert {"maxUnavailable": 1} == {
        name: value for name, value in only(embedded, "PodDisruptionBudget")["spec"].items() if name != "selector"
    }


@pytest.mark.parametrize("name", WAYS)
def test_an_end_has_its_time(name: str, tmp_path: Path, overlays: dict[str, list[dict[str, Any]]]) -> None:
    """A pod is given more time than waiting for the balancers and draining take together."""
    waits = float(container_of(overlays[name])["lifecycle"]["preStop"]["exec"]["command"][1])
    drains = configured(overlays[name], tmp_path, STORES[0]).settings.drain_timeout

    assert pod_of(overlays[name])["terminationGracePeriodSeconds"] > waits + drains


def test_a_killed_instance_has_time_to_start(overlays: dict[str, list[dict[str, Any]]]) -> None:
    """An instance that waits for the end of the lease of its name is not killed for that."""
    probe = container_of(overlays["shared"])["startupProbe"]

    assert probe["periodSeconds"] * probe["failureThreshold"] > 3 * Configuration().lease


def test_the_example_of_a_secret(tmp_path: Path, overlays: dict[str, list[dict[str, Any]]]) -> None:
    """The example has every key that a pod asks for and no other, and a pod with its values is refused."""
    (secret,) = documents(KUBERNETES / "secret.example.yaml")
    pod, container = pod_of(overlays["shared"]), container_of(overlays["shared"])
    asked = {item["key"] for each in pod["volumes"] for item in each.get("secret", {}).get("items", ())}
    asked |= {
        each["valueFrom"]["secretKeyRef"]["key"]
        for each in container["env"]
        if "secretKeyRef" in each.get("valueFrom", {})
    }
    named = {each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
    for name, value in secret["stringData"].items():
        (tmp_path / name).write_text(value)
    given = environment(overlays["shared"], tmp_path, store_url=secret["stringData"]["store-url"])

    assert asked == secret["stringData"].keys()
    assert {secret["metadata"]["name"]} == named
    with pytest.raises(ConfigurationError, match="needs 32"):
        load(given)


def test_the_dashboard_gets_into_the_cluster(overlays: dict[str, list[dict[str, Any]]]) -> None:
    """The dashboard is a config map with the label that Grafana looks for."""
    dashboard = only(overlays["monitoring"], "ConfigMap", "knhk-dashboard")

    assert {"grafana_dashboard": "1"} == dashboard["metadata"]["labels"]
    assert (KUBERNETES / "monitoring" / "dashboard.json").read_text(encoding="utf-8") == dashboard["data"][
        "dashboard.json"
    ]
