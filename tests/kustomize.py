"""
Builds an overlay as Kustomize does, as far as ``deploy/`` uses it, and refuses what it does not know.

Known are: resources (files and directories), patches (strategic merge, for what has the patch's kind and name), images, a
namespace, and config maps made of files whose names get no hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MERGED_BY = {"containers": "name", "env": "name", "volumeMounts": "mountPath", "volumes": "name"}
"""Lists that a strategic merge merges entry by entry, and by what; others are replaced."""

_KEYS = {"apiVersion", "kind", "namespace", "resources", "patches", "images", "configMapGenerator"}
_CLUSTER_WIDE = {"Namespace"}


def documents(path: Path) -> list[dict[str, Any]]:
    """The resources of a file."""
    return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each is not None]


def build(directory: Path) -> list[dict[str, Any]]:
    """
    Build the overlay of a directory.

    Raises:
        ValueError: it uses what is not known here, or names what is not there.
    """
    overlay = documents(directory / "kustomization.yaml")[0]
    unknown = overlay.keys() - _KEYS
    if unknown:
        raise ValueError(f"{directory.name}: not known here: {sorted(unknown)}")
    built = [each for name in overlay.get("resources", ()) for each in _resources(directory / name)]
    built += [_config_map(directory, each) for each in overlay.get("configMapGenerator", ())]
    for patch in overlay.get("patches", ()):
        _patch(built, directory, patch)
    for each in built:
        if each["kind"] not in _CLUSTER_WIDE and "namespace" in overlay:
            each["metadata"]["namespace"] = overlay["namespace"]
    for image in overlay.get("images", ()):
        _rename(built, image)
    return built


def _resources(path: Path) -> list[dict[str, Any]]:
    return build(path.resolve()) if path.is_dir() else documents(path)


def _config_map(directory: Path, made: dict[str, Any]) -> dict[str, Any]:
    options = made.get("options", {})
    if made.keys() - {"name", "files", "options"} or options.keys() - {"disableNameSuffixHash", "labels"}:
        raise ValueError(f"{made['name']}: not known here")
    if not options.get("disableNameSuffixHash"):
        raise ValueError(f"{made['name']}: names with a hash are not known here")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": made["name"], "labels": options.get("labels", {})},
        "data": {name: (directory / name).read_text(encoding="utf-8") for name in made["files"]},
    }


def _patch(built: list[dict[str, Any]], directory: Path, patch: dict[str, Any]) -> None:
    if patch.keys() != {"path"}:
        raise ValueError(f"{directory.name}: of patches only a path is known here, not {sorted(patch)}")
    for change in documents(directory / patch["path"]):
        found = [
            each
            for each in built
            if (each["kind"], each["metadata"]["name"]) == (change["kind"], change["metadata"]["name"])
        ]
        if len(found) != 1:
            raise ValueError(
                f"{patch['path']}: {len(found)} resources are {change['kind']} {change['metadata']['name']}"
            )
        _merge(found[0], change)


def _merge(base: dict[str, Any], change: dict[str, Any]) -> None:
    """Merge a change into a resource, strategically."""
    for name, value in change.items():
        if name.startswith("$") or value is None:
            raise ValueError(f"{name}: what takes something away is not known here")
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            _merge(base[name], value)
        elif isinstance(value, list) and name in MERGED_BY:
            _merge_lists(base.setdefault(name, []), value, MERGED_BY[name])
        else:
            base[name] = value


def _merge_lists(base: list[Any], change: list[Any], key: str) -> None:
    fresh = []
    for each in change:
        same = [there for there in base if there[key] == each[key]]
        if same:
            _merge(same[0], each)
        else:
            fresh.append(each)
    base[:0] = fresh


def containers(resource: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The containers of a resource that makes pods."""
    template = resource.get("spec", {}).get("template", {})
    yield from template.get("spec", {}).get("containers", ())


def _rename(built: list[dict[str, Any]], image: dict[str, Any]) -> None:
    if image.keys() != {"name", "newName", "newTag"}:
        raise ValueError(f"image {image}: name, newName and newTag are known here")
    for each in (container for resource in built for container in containers(resource)):
        if each["image"].partition(":")[0] == image["name"]:
            each["image"] = f"{image['newName']}:{image['newTag']}"
