"""Types of single values that several blocks of params.yaml share."""

import difflib
import os
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, ConfigDict, Field

from stages.contracts import zoo

from .mistakes import refused

STRICT = ConfigDict(extra="forbid", strict=True)
# Folders that belong to the pipeline: DVC and `make clean` remove what is in them.
WRITTEN = tuple(map(Path, ("data/model", "data/evaluation", "data/calibration", "data/train", "models", "reports")))

Value = TypeVar("Value", str, int)


def one_of(names: tuple[str, ...]) -> AfterValidator:
    """A model of that name; another one is answered with those that are close."""

    def check(name: str) -> str:
        if zoo.GONE.fullmatch(name):
            raise refused(
                "left-keras",
                f"{name} is in Keras no more since version 3; save it as .h5 with the Keras that has it, and set "
                "model.name to custom and model.path to that file",
            )
        if name not in names:
            close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise refused("unknown-model", f"unknown model {name!r}; {hint}valid names are {', '.join(names)}")
        return name

    return AfterValidator(check)


def no_repeats(values: tuple[Value, ...]) -> tuple[Value, ...]:
    """Each value once."""
    repeated = sorted(value for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise refused("repeated", f"{', '.join(map(str, repeated))} stands there more than once; list each value once")
    return values


def in_order(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The smallest first."""
    return tuple(sorted(sizes))


def share(value: float) -> float:
    """From 0 to below 1."""
    if not 0 <= value < 1:
        raise refused("no-share", "it should be a share from 0 to below 1: 0.01 is one percentage point")
    return value


def _pinned(source: str) -> str:
    if (source.startswith(("http://", "https://")) or "==" in source) and not re.search(
        r"#sha256=[0-9a-f]{64}$", source
    ):
        raise refused("no-hash", "a download needs its hash: append #sha256= and the 64 hex digits `sha256sum` prints")
    return source


def _not_written(source: str) -> str:
    # DVC removes a stage's outputs before it runs.
    place = Path(os.path.abspath(source))  # noqa: PTH100 (a path need not exist, and no link is followed)
    owner = next((folder for folder in WRITTEN if place.is_relative_to(folder.absolute())), None)
    if owner:
        raise refused(
            "cleared-folder",
            f"the pipeline writes {owner}/ itself and clears it first; keep your own files elsewhere",
        )
    return source


Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Text = Annotated[str, Field(min_length=1)]
Source = Annotated[Text, AfterValidator(_pinned), AfterValidator(_not_written)]
Share = Annotated[float, AfterValidator(share)]
# Of images: neither none nor all.
Part = Annotated[float, Field(gt=0, lt=1)]
