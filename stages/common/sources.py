"""Where photographs come from: the samples inside wheels, a folder of the user's, or an archive by URL."""

import csv
import hashlib
import re
import shutil
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tqdm import tqdm

from stages.common import images, paths, wheels
from stages.common.errors import PipelineError
from stages.common.labels import Labels
from stages.common.wheels import Wheel

SAMPLE = "sample"
FOOLBOX = Wheel("foolbox", "3.3.4", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb")
# Built per platform; the photographs inside are the same, so one build serves every machine.
PLATFORM = "manylinux_2_17_x86_64"
SCIKIT_IMAGE = Wheel(
    "scikit-image", "0.24.0", "39ee0af13435c57351a3397eb379e72164ff85161923eec0c38849fecf1b4764", PLATFORM
)
SCIKIT_LEARN = Wheel(
    "scikit-learn", "1.5.2", "3a686885a4b3818d9e62904d91b57fa757fc2bed3e465c8b177be652f4dd37c8", PLATFORM
)
PHOTOGRAPHS = ["astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "motorcycle_left"]
CALIBRATION_SAMPLES = {
    SCIKIT_IMAGE: [
        *(f"skimage/data/{name}.png" for name in PHOTOGRAPHS),
        "skimage/data/hubble_deep_field.jpg",
        "skimage/data/rocket.jpg",
    ],
    SCIKIT_LEARN: ["sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg"],
}


class Photo(NamedTuple):
    """An image file, its name inside its source, and its class (None: unlabelled)."""

    path: Path
    name: str
    label: int | None = None


def labelled(source: str, labels: Labels, checkout: Path, work: Path) -> list[Photo]:
    """The evaluation photographs of `source`; PipelineError lists every missing file and unknown label at once."""
    if source == SAMPLE:
        return _foolbox(work)
    folder = _folder(source, checkout, work)
    table = folder / "labels.csv"
    photos, problems = _from_table(table, labels) if table.exists() else _from_folders(folder, labels)
    if problems:
        raise PipelineError(f"{len(problems)} problems in {source}, mend or remove each:\n  " + "\n  ".join(problems))
    if not photos:
        raise PipelineError(f"{source} holds no images: it needs a labels.csv (file,label) or one sub-folder per class")
    return photos


def unlabelled(source: str, checkout: Path, work: Path) -> list[Photo]:
    """The calibration photographs of `source`, in a stable order."""
    if source == SAMPLE:
        fetched = wheels.fetch(work, *CALIBRATION_SAMPLES)
        pairs = zip(fetched, CALIBRATION_SAMPLES.values(), strict=True)
        found = [path for wheel, members in pairs for path in wheels.extract(wheel, members, work)]
        return [Photo(path, path.name) for path in found]
    folder = _folder(source, checkout, work)
    return [Photo(path, path.relative_to(folder).as_posix()) for path in images.files(folder)]


def _foolbox(work: Path) -> list[Photo]:
    """The 20 ImageNet photographs of foolbox; their file names end in the class."""
    (wheel,) = wheels.fetch(work, FOOLBOX)
    found = wheels.extract(wheel, sorted(m for m in wheels.members(wheel) if "/imagenet_" in m), work)
    return [Photo(path, path.name, int(path.stem.rpartition("_")[2])) for path in found]


def _from_table(table: Path, labels: Labels) -> tuple[list[Photo], list[str]]:
    photos, problems = [], []
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if not {"file", "label"} <= set(rows.fieldnames or ()):
            raise PipelineError(f"{table} needs the columns file and label in its first line")
        for row in rows:
            name, text = row["file"] or "", row["label"] or ""
            label = labels.index(text.strip())
            if not (table.parent / name).is_file():
                problems.append(f"labels.csv line {rows.line_num}: the file {name or '(empty)'} does not exist")
            elif label is None:
                problems.append(f"labels.csv line {rows.line_num}: {name} has the {_unknown(text, labels)}")
            else:
                photos.append(Photo(table.parent / name, name, label))
    return photos, problems


def _from_folders(folder: Path, labels: Labels) -> tuple[list[Photo], list[str]]:
    photos, problems = [], []
    for path in images.files(folder):
        inside = path.relative_to(folder)
        label = labels.index(inside.parts[0]) if len(inside.parts) > 1 else None
        if label is not None:
            photos.append(Photo(path, inside.as_posix(), label))
        elif len(inside.parts) == 1:
            problems.append(f"{inside} has no label: list it in labels.csv or put it into a folder named as its class")
        else:
            problems.append(f"{inside} lies in a folder named with the {_unknown(inside.parts[0], labels)}")
    return photos, problems


def _unknown(text: str, labels: Labels) -> str:
    return f"unknown label {text!r} (allowed: 0 to {len(labels) - 1}, a WordNet id, or a class name that is unique)"


def _folder(source: str, checkout: Path, work: Path) -> Path:
    """A folder on this disk that holds the images of `source`."""
    if source.startswith(("http://", "https://")):
        url, _, digest = source.partition("#sha256=")
        return _unpack(download(url, digest, work), work / "unpacked")
    folder = paths.resolve(source, checkout)
    if not folder.is_dir():
        raise PipelineError(f"there is no folder {folder} (named in params.yaml as {source}): correct the path")
    return folder


def download(url: str, sha256: str, work: Path) -> Path:
    """Fetch a file into `work`, with a bar when a person watches; PipelineError if it is not the file expected."""
    name = re.sub(r"[^\w.-]", "_", PurePosixPath(urllib.parse.urlparse(url).path).name) or "download"
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, (work / name).open("wb") as file:
            for piece in _pieces(answer, int(answer.headers.get("Content-Length") or 0), name):
                digest.update(piece)
                file.write(piece)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise PipelineError(
            f"could not download {url} ({getattr(error, 'reason', error)}): check the address and the connection"
        ) from None
    if digest.hexdigest() != sha256:
        raise PipelineError(
            f"{url} has the sha256 {digest.hexdigest()}, but params.yaml asks for {sha256}: correct one of them"
        )
    return work / name


def _pieces(answer: IO[bytes], total: int, name: str) -> Iterator[bytes]:
    # disable=None: a bar on a terminal, silence in a pipe.
    with tqdm(desc=name, total=total or None, unit="B", unit_scale=True, disable=None) as bar:
        while piece := answer.read(1 << 16):
            bar.update(len(piece))
            yield piece


def _unpack(archive: Path, target: Path) -> Path:
    """Unpack regular files only; the folder with labels.csv, or the first that holds more than one folder."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                for item in (item for item in packed.infolist() if not item.is_dir()):
                    with packed.open(item) as content:
                        _write_member(item.filename, content, target)
        else:
            with tarfile.open(archive) as tar:
                for member in (member for member in tar if member.isreg()):
                    _write_member(member.name, tar.extractfile(member), target)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise PipelineError(
            f"{archive.name} is not a readable zip or tar archive ({error}): fetch or pack it again"
        ) from None
    tables = sorted(target.rglob("labels.csv"))
    folder = tables[0].parent if tables else target
    while not tables and len(inside := list(folder.iterdir())) == 1 and inside[0].is_dir():
        folder = inside[0]
    return folder


def _write_member(name: str, content: IO[bytes] | None, target: Path) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise PipelineError(f"the archive holds {name!r}, which would be written outside its folder: pack it again")
    (target / path).parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        with (target / path).open("wb") as file:
            shutil.copyfileobj(content, file)
