"""Pipelines: components that answers run through, validated when loaded (Archon, arXiv 2409.15254, section 3)."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from updraft.composition.base import Component
from updraft.composition.components import KINDS, AnyComponent
from updraft.errors import ConfigError, InvalidRequest

__all__ = ["Pipeline", "load_pipeline", "parse_pipeline"]

_MAX_BYTES: Final = 256 << 10


class Pipeline(BaseModel):
    """Components and how answers flow between them.

    Attributes:
        calls: at most: answers, critiques, tests, and answers that a verifier or the model judges. When they are used
            up, the components that need some hand on what came in.
        answer: the component whose best answer is the pipeline's; the last one that gives answers when left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="pipeline", min_length=1, max_length=64)
    calls: int = Field(default=64, ge=1, le=4096)
    answer: str | None = None
    component: tuple[AnyComponent, ...] = Field(min_length=1, max_length=32)

    @model_validator(mode="after")
    def _check(self) -> Pipeline:
        counts = Counter(component.id for component in self.component)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"two components are called {twice[0]!r}")
        if not any(component.kind == "generate" for component in self.component):
            raise ValueError("there is no generator: a component of kind 'generate' must write the first answers")
        for component in self.component:
            self._check_inputs(component)
        if self.answer is not None and self._named(self.answer).gives != "answers":
            raise ValueError(f"answer names {self.answer!r}, which gives no answers")
        _ = self.order
        return self

    @cached_property
    def order(self) -> tuple[Component, ...]:
        """The components, each after those that it takes from; else as they are written."""
        sorter = TopologicalSorter({component.id: component.inputs for component in self.component})
        try:
            sorter.prepare()
        except CycleError as error:
            raise ValueError(f"components wait for each other: {' -> '.join(error.args[1])}") from None
        place = {component.id: index for index, component in enumerate(self.component)}
        ordered: list[Component] = []
        while sorter.is_active():
            for name in sorted(sorter.get_ready(), key=place.__getitem__):
                ordered.append(self.component[place[name]])
                sorter.done(name)
        return tuple(ordered)

    @property
    def output(self) -> str:
        """The component whose best answer is the pipeline's."""
        return self.answer or [component.id for component in self.order if component.gives == "answers"][-1]

    def _named(self, name: str) -> Component:
        found = next((component for component in self.component if component.id == name), None)
        if found is None:
            raise ValueError(f"there is no component {name!r}")
        return found

    def _check_inputs(self, component: Component) -> None:
        given = Counter(self._named(name).gives for name in component.inputs)
        for needed in component.takes:
            if not given.pop(needed, 0):
                raise ValueError(f"{component.id!r} ({component.kind}) needs an input that gives {needed}")
        if given:
            raise ValueError(f"{component.id!r} ({component.kind}) takes no {next(iter(given))}")


def parse_pipeline(data: Mapping[str, Any]) -> Pipeline:
    """A pipeline from a decoded TOML or JSON object.

    Raises:
        InvalidRequest: an unknown component, a cycle, a missing input, no generator, or a setting that is out of range.
    """
    try:
        return Pipeline.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in KINDS) or "pipeline"
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
            tag = first.get("ctx", {}).get("tag")
            message = f"there is no component of kind {tag!r}" if tag else "the component's kind is missing"
            message += f"; kinds are {', '.join(KINDS)}"
        raise InvalidRequest(f"{where}: {message}.", param=f"pipeline.{where}") from error


def load_pipeline(path: Path) -> Pipeline:
    """Read a .toml or .json file.

    Raises:
        ConfigError: it is missing, too large, or neither.
        InvalidRequest: as `parse_pipeline`.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path.name} is over {_MAX_BYTES} bytes.", remedy="A pipeline file is a few kilobytes.")
        text = path.read_bytes().decode()
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path} could not be read: {error.strerror}.", remedy="Name a pipeline file.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path.name} is no valid file: {error}", remedy="Write it as TOML or JSON.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path.name} holds no object.", remedy="See docs/composition.md for a pipeline.")
    return parse_pipeline(data)
