"""What is in ``deploy/``, read for the tests that look at it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import compose_spec

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "docker-compose.yaml"
KUBERNETES = DEPLOY / "kubernetes"


class Instruction(NamedTuple):
    """One instruction of a Dockerfile, and the number of the stage that it is in, from 1."""

    stage: int
    word: str
    text: str

    @property
    def command(self) -> list[str]:
        """The command of an instruction in exec form; raises ValueError where it is in another."""
        found = json.loads(self.text[self.text.index("[") :])
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise ValueError(f"{self.word} is not in exec form: {self.text}")
        return found


def dockerfile() -> list[Instruction]:
    """The instructions of the Dockerfile in order."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    stage, found = 0, []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word:
            stage += word == "FROM"
            found.append(Instruction(stage, word, rest.strip()))
    return found


def in_image(word: str) -> list[Instruction]:
    """The instructions of this kind in the last stage, which is the image."""
    everything = dockerfile()
    return [each for each in everything if each.word == word and each.stage == everything[-1].stage]


def image_environment() -> dict[str, str]:
    """The environment that the image sets."""
    pairs = (pair.partition("=") for each in in_image("ENV") for pair in each.text.split())
    return {name: value.strip('"') for name, _, value in pairs}


def compose() -> dict[str, Any]:
    """The compose file with its anchors merged; raises ValueError where it is against the Compose Specification."""
    options = compose_spec.PyOptions(apply_merge=True)
    found = options.from_yaml(COMPOSE.read_text(encoding="utf-8"))
    found.validate()
    return dict(found.to_dict())


def mounts(service: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """The files and directories of ``deploy/`` that a service of the compose file sees, each with where it sees it."""
    for each in service.get("volumes", ()):
        source, target = each.split(":")[:2]
        if source.startswith("."):
            yield (DEPLOY / source).resolve(), target
