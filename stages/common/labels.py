"""The model's classes: index, WordNet id and name, as `download` writes them."""

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stages.common import files, paths


@dataclass(frozen=True)
class Labels:
    """Names and WordNet ids of the classes, in the order of the model's outputs."""

    names: tuple[str, ...]
    wnids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def index(self, text: str) -> int | None:
        """Class number of `7`, `n01514668` or `cock`; None for an unknown or ambiguous one."""
        if text.isdecimal():
            return int(text) if int(text) < len(self) else None
        return self._known.get(text)

    def name(self, index: int) -> str:
        """A class by name; by number where it has none."""
        return self.names[index] if index < len(self) else f"class {index}"

    @cached_property
    def _known(self) -> dict[str, int]:
        unique = {name: index for index, name in enumerate(self.names) if self.names.count(name) == 1}
        return unique | {wnid: index for index, wnid in enumerate(self.wnids)}


def write(labels: Labels, path: Path = paths.LABELS) -> None:
    """One line per class: index, wnid, name."""
    pairs = zip(labels.wnids, labels.names, strict=True)
    files.write_csv(path, ("index", "wnid", "name"), ((index, *pair) for index, pair in enumerate(pairs)))


def read(path: Path = paths.LABELS) -> Labels:
    """The inverse of `write`."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return Labels(tuple(row["name"] for row in rows), tuple(row["wnid"] for row in rows))
