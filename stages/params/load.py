"""Reads params.yaml: one block of it strictly, so that a stage depends on the blocks it uses and on no other."""

import hashlib
import json
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from stages.core import errors
from stages.core.errors import PipelineError

from . import strict_yaml
from .mistakes import Mistake, ParamsError, collect, credentials

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
    found = _used(key, path)
    if key not in found:
        raise ParamsError(path, [Mistake(key, "missing", f"the key `{key}` is missing")])
    return check(kind, key, found[key], path)


def options(runtime: str, path: Path = PARAMS) -> dict[str, Scalar]:
    """A runtime's block as plain values, as it stands there; empty where it is left out."""
    found = _used(runtime, path)
    return check(dict[str, Scalar], runtime, found[runtime], path) if runtime in found else {}


def digest(path: Path = PARAMS) -> str:
    """Of all parameters but where the results are logged, as 16 hex digits: a choice holds for no others.

    Of what the file says, as DVC compares it: a default that a new version changes re-runs no choice.
    """
    return _digest(everything(path))


def _digest(stated: Values) -> str:
    text = _text({name: value for name, value in stated.items() if name != "tracking"})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def everything(path: Path = PARAMS) -> Values:
    """All values, each of which this command uses."""
    place, found = path.absolute(), values(path)
    errors.remember(str(path), lambda: _digest(values(place)), _digest(found))
    return found


def _used(key: str, path: Path) -> Values:
    """All values, of which this command uses that key: the command fails at its end if the key has changed since.

    DVC notes the parameters of a stage when it ends, and would take a figure of the old ones for one of the new.
    """
    place, found = path.absolute(), values(path)
    name = f"`{key}` in {path}"
    errors.remember(name, lambda: _text(values(place).get(key)), _text(found.get(key)))
    return found


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


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
        found = check(Values, "", strict_yaml.read(path), path)
    except FileNotFoundError:
        raise PipelineError(
            f"{path} is missing: restore it with `git checkout {path}`", code="params-missing", file=str(path)
        ) from None
    if secrets := credentials(found):
        raise ParamsError(path, secrets)
    return found
