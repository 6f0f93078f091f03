"""What servers are given: the winner, and its model's tensors, engines and classes."""

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.core import files
from stages.runtimes import registry
from stages.runtimes.contract import Interface, Tensor
from stages.runtimes.description import Servers
from stages.serving.winner import Winner


@dataclass(frozen=True)
class Served:
    """The winner as servers see it."""

    winner: Winner
    classes: tuple[str, ...]
    interface: Interface

    @property
    def name(self) -> str:
        """What servers call the model."""
        return self.winner.model.name

    @property
    def class_lines(self) -> str:
        """The classes as a text file, a line each."""
        return "".join(f"{name}\n" for name in self.classes)

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Sizes that there are engines for, or else that were measured."""
        return self.interface.batch_sizes or tuple(speed.batch_size for speed in self.winner.row.speeds)

    @property
    def tensors(self) -> dict[str, dict[str, object]]:
        """Input and output for preprocessing.json, without what is not known of them."""
        return {"input": known(self.interface.input), "output": known(self.interface.output)}


def servers(winner: Winner) -> Servers:
    """Which servers take files of its runtime."""
    return registry.description(winner.runtime).servers


def known(tensor: Tensor) -> dict[str, object]:
    """What is known of a tensor, by name."""
    return {name: value for name, value in asdict(tensor).items() if value is not None}


def copy_files(source: Path, target: Path, names: Iterable[str] | None = None) -> None:
    """Copy these files of a folder, or all; shutil.copytree would turn a full disk into a list of all files, and copy
    the write protection of DVC's cache.
    """
    for name in files.sizes(source) if names is None else names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
