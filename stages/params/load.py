"""Reads params.yaml: one block of it strictly, so that a stage depends on the blocks it uses and on no other."""

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from stages.core.errors import PipelineError

from .mistakes import Mistake, ParamsError, collect

PARAMS = Path("params.yaml")
# As in contracts/conversion.py, on which not every reader of params.yaml is to depend.
Scalar = bool | int | float | str | None
# As JSON has them; what a block holds is known once it is checked.
Values = dict[str, object]
Checked = TypeVar("Checked")


class Block(Protocol):
    """A frozen dataclass that types one key of params.yaml."""

    KEY: ClassVar[str]


Kind = TypeVar("Kind", bound=Block)


def read(kind: type[Kind], path: Path = PARAMS) -> Kind:
    """One block; ParamsError names every wrong key in it and what is allowed there. Other blocks may hold anything."""
    return read_key(kind.KEY, kind, path)


def read_key(key: str, kind: type[Checked], path: Path = PARAMS) -> Checked:
    """The value of one key as that type."""
    found = values(path)
    if key not in found:
        raise ParamsError(path, [Mistake(key, "missing", f"the key `{key}` is missing")])
    return check(kind, key, found[key], path)


def options(runtime: str, path: Path = PARAMS) -> dict[str, Scalar]:
    """A runtime's block as plain values, as it stands there; empty where it is left out."""
    found = values(path)
    return check(dict[str, Scalar], runtime, found[runtime], path) if runtime in found else {}


def digest(path: Path = PARAMS) -> str:
    """Of all parameters but where the results are logged, as 16 hex digits: a choice holds for no others.

    Of what the file says, as DVC compares it: a default that a new version changes re-runs no choice.
    """
    stated = {name: value for name, value in values(path).items() if name != "tracking"}
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()[:16]


def check(kind: type[Checked], key: str, value: object, path: Path) -> Checked:
    """The value as that type; ParamsError says everything that is wrong with it."""
    try:
        # By way of JSON, since pydantic's strict mode takes a list for a tuple there but no "8" for an 8.
        return TypeAdapter(kind).validate_json(json.dumps(value))
    except ValidationError as error:
        raise ParamsError(path, collect(kind, key, error)) from None


def values(path: Path = PARAMS) -> Values:
    """The whole file as plain values; PipelineError where it is missing, no YAML, or no block of keys."""
    try:
        found = json.loads(json.dumps(yaml.load(path.read_text(encoding="utf-8"), _Loader), default=str))
    except FileNotFoundError:
        raise PipelineError(
            f"{path} is missing: restore it with `git checkout {path}`", code="params-missing", file=str(path)
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"{path} is not valid YAML: {' '.join(str(error).split())}", code="params-no-yaml", file=str(path)
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise PipelineError(
            f"{path} holds something that is no plain value ({error}): use text, numbers and lists",
            code="params-not-plain",
            file=str(path),
        ) from None
    return check(Values, "", found, path)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: list[object] = []
        for key, _ in node.value:
            if key.value in names:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` stands there twice", key.start_mark)
            names.append(key.value)
        return super().construct_mapping(node, deep)
