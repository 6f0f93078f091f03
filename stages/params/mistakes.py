"""What is wrong in params.yaml: pydantic's errors as sentences that name the key, its value and what is allowed."""

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from stages.core.errors import PipelineError
from stages.core.shown import has_secret, masked

# How many mistakes one sentence lists, how much of a wrong value, and of what is allowed, which may name values too: a
# damaged file has thousands of them.
LISTED = 20
SHOWN = 200
ALLOWED = 2000

Place = tuple[int | str, ...]

# Where pydantic's words would be another language's.
PLAIN_WORDS = {
    "tuple_type": "it should be a list, such as [a, b]",
    "too_short": "it lists too few values",
    "dict_type": "it should be a block of keys",
    "too_long": "it lists too many values",
    "string_too_short": "it should not be empty",
    "dataclass_type": "it should be a block of keys",
}


# How else credentials reach what a key names.
WITHOUT_SECRETS = {
    "tracking.uri": "set null, and the whole address in MLFLOW_TRACKING_URI",
    "execution.images": "give them to the nodes",
}


@dataclass(frozen=True)
class Mistake:
    """One wrong key, the kind of mistake in kebab-case, and the sentence for it."""

    key: str
    code: str
    sentence: str


class ParamsError(PipelineError):
    """All that is wrong in params.yaml at once; `values` has the code of each mistake by its key."""

    def __init__(self, path: Path, mistakes: Sequence[Mistake]) -> None:
        """A sentence for each, with the file's name before it."""
        super().__init__(
            "; ".join(f"{path}: {mistake.sentence}" for mistake in mistakes),
            code="params-invalid",
            file=str(path),
            mistakes={mistake.key: mistake.code for mistake in mistakes},
        )
        self.mistakes = tuple(mistakes)


def refused(code: str, allowed: str) -> PydanticCustomError:
    """To raise in the check of one value; `allowed` follows the key and the value in the sentence."""
    return PydanticCustomError(code, "{allowed}", {"allowed": allowed})


def contradiction(code: str, key: str, sentence: str) -> PydanticCustomError:
    """To raise in the check of several keys of a block; `key` is the whole name of the one to change."""
    return PydanticCustomError(code, "{sentence}", {"sentence": sentence, "key": key})


def collect(kind: object, key: str, error: ValidationError) -> list[Mistake]:
    """The mistakes in the block `key` (empty: the whole file), which should be a `kind`."""
    errors = error.errors(include_url=False)
    real = [item for item in errors if not _echo(item, errors)]
    more = len(real) - LISTED
    told = [_mistake(kind, key, item) for item in real[:LISTED]]
    return told + [Mistake("more", "more-mistakes", f"and {more:,} more: correct these first")] * (more > 0)


def credentials(value: object, key: str = "") -> list[Mistake]:
    """Every address below `key` that carries a login, a signature or a token: DVC and MLflow keep the whole file."""
    if isinstance(value, dict):
        return [mistake for name, inner in value.items() for mistake in credentials(inner, _name(key, (name,)))]
    if isinstance(value, list):
        return [mistake for index, inner in enumerate(value) for mistake in credentials(inner, _name(key, (index,)))]
    if not isinstance(value, str) or not has_secret(value):
        return []
    ways = WITHOUT_SECRETS.get(key, "give them by ~/.netrc, or fetch the file yourself")
    allowed = f"it should hold no credentials, since DVC and MLflow keep it: {ways}"
    return [Mistake(key, "credentials", _sentence(key, unquote(value), allowed))]


def _echo(error: ErrorDetails, errors: list[ErrorDetails]) -> bool:
    """A list of bad values counts as empty to pydantic, which the errors of its values say better."""
    place = error["loc"]
    return error["type"] == "too_short" and any(other["loc"][: len(place)] == place != other["loc"] for other in errors)


def _mistake(kind: object, block: str, error: ErrorDetails) -> Mistake:
    place, code = error["loc"], error["type"].replace("_", "-")
    key = _name(block, place)
    context = error.get("ctx", {})
    if "sentence" in context:
        return Mistake(context["key"], code, context["sentence"])
    if code == "missing":
        return Mistake(key, code, f"the key `{key}` is missing")
    if code == "unexpected-keyword-argument":
        return Mistake(key, "unknown-key", f"`{_start(key)}` is not a known key; {_siblings(kind, place)}")
    if code == "value-error":
        return _of_options(key, context["error"])
    return Mistake(key, code, _sentence(key, error["input"], _allowed(error)))


def _name(block: str, place: Place) -> str:
    inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return (block + inside).removeprefix(".")


def _of_options(block: str, error: ValueError) -> Mistake:
    """What the options of a runtime refuse by themselves, in plain Python (runtimes/shared/checks.py)."""
    if not hasattr(error, "allowed"):
        return Mistake(block, "options-refused", f"`{block}` is refused: {error}")
    key = f"{block}.{getattr(error, 'key', '')}"
    return Mistake(key, "options-refused", _sentence(key, getattr(error, "value", None), error.allowed))


def _sentence(key: str, value: object, allowed: str) -> str:
    written = masked(json.dumps(value))  # before it is cut: half a password would pass
    return f"`{key or 'the file'}` is {_start(written)}: {_start(allowed, ALLOWED)}"


def _start(text: str, most: int = SHOWN) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def _allowed(error: ErrorDetails) -> str:
    if error["type"] == "too_short" and not error["input"]:
        return "it should list at least one value"
    allowed = PLAIN_WORDS.get(error["type"]) or error["msg"].replace("Input should be", "it should be")
    if re.fullmatch(r"[\d.]+[eE]-?\d+", str(error["input"])):
        allowed += f"; YAML takes {error['input']} for text: write all its digits"
    return allowed


def _siblings(kind: Any, place: Place) -> str:
    for part in place[:-1]:
        kind = next(field.type for field in fields(kind) if field.name == part)
    names = [field.name for field in fields(kind)]
    close = difflib.get_close_matches(str(place[-1]), names, n=1)
    return (f"did you mean `{close[0]}`? " if close else "") + f"known keys there: {', '.join(names)}"
