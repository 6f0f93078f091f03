"""What an HDF5 file takes from other files: HDF5 opens those by itself, wherever they lie."""

from collections.abc import Iterator
from pathlib import Path

import h5py


def refuse_other_files(path: Path) -> None:
    """Raise ValueError for weights that are not all in this file."""
    with h5py.File(path) as file:
        if found := list(findings(file)):
            raise ValueError("; ".join(found))


def findings(file: h5py.File) -> Iterator[str]:
    """Each link, and each data set whose values lie in another file, by its place."""
    waiting, seen = [file["/"]], set()
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address not in seen:  # a group may hold itself
            seen.add(address)
            for name in group:
                yield from _link(group, name)
                part = group[name] if _is_part(group, name) else None
                waiting += [part] if isinstance(part, h5py.Group) else []
                yield from _data(part) if isinstance(part, h5py.Dataset) else ()


def _is_part(group: h5py.Group, name: str) -> bool:
    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def _link(group: h5py.Group, name: str) -> Iterator[str]:
    """Keras writes none. One within the file may lead to another that leaves it."""
    if not _is_part(group, name):
        link = group.get(name, getlink=True)
        place = f" of {link.filename}" if isinstance(link, h5py.ExternalLink) else ""
        yield f"{name} in {group.name} is a link to {link.path}{place}"


def _data(data: h5py.Dataset) -> Iterator[str]:
    for file, _, _ in data.external or ():
        yield f"the weights {data.name} lie in the file {file}"
    if data.is_virtual:
        yield f"the weights {data.name} are put together from other data sets"
