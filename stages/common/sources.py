"""Where photographs come from: the samples inside wheels, a folder of the user's, or an archive by URL."""

import csv
import gzip
import hashlib
import http.client
import lzma
import re
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
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


# What a damaged or encrypted archive raises.
UNREADABLE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
)


class Photo(NamedTuple):
    """An image file, its name inside its source, and its class (None: unlabelled)."""

    path: Path
    name: str
    label: int | None = None


def labelled(source: str, labels: Labels, checkout: Path, work: Path) -> list[Photo]:
    """The evaluation photographs of `source`; PipelineError lists every missing file and unknown label at once."""
    if source == SAMPLE:
        return _foolbox(work)
    folder = _folder(source, checkout, work, is_class=lambda name: labels.index(name) is not None)
    table = folder / "labels.csv"
    photos, problems = _from_table(table, labels) if table.exists() else _from_folders(folder, labels)
    if problems:
        raise PipelineError(f"problems in {source} ({len(problems)}), mend or remove each:\n  " + "\n  ".join(problems))
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
    folder = _folder(source, checkout, work, is_class=lambda name: False)
    return [Photo(path, path.relative_to(folder).as_posix()) for path in images.files(folder)]


def _foolbox(work: Path) -> list[Photo]:
    """The 20 ImageNet photographs of foolbox; their file names end in the class."""
    (wheel,) = wheels.fetch(work, FOOLBOX)
    found = wheels.extract(wheel, sorted(m for m in wheels.members(wheel) if "/imagenet_" in m), work)
    return [Photo(path, path.name, int(path.stem.rpartition("_")[2])) for path in found]


def _from_table(table: Path, labels: Labels) -> tuple[list[Photo], list[str]]:
    photos, problems = [], []
    for line, row in _rows(table):
        name, text = row["file"] or "", (row["label"] or "").strip()
        path, label = table.parent / name, labels.index(text)
        if not path.is_file() or not path.resolve().is_relative_to(table.parent.resolve()):
            problems.append(f"labels.csv line {line}: the file {name or '(empty)'} does not exist in its folder")
        elif label is None:
            problems.append(f"labels.csv line {line}: {name} has the {_unknown(text, labels)}")
        else:
            photos.append(Photo(path, name, label))
    return photos, problems


def _rows(table: Path) -> list[tuple[int, dict[str, str | None]]]:
    """Line numbers and rows of a labels.csv."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            columns = set(rows.fieldnames or ())
            numbered: list[tuple[int, dict[str, str | None]]] = [(rows.line_num, row) for row in rows]
    except (UnicodeDecodeError, csv.Error) as error:
        raise PipelineError(f"{table} is not a CSV file in UTF-8 ({error}): save it as one") from None
    if not {"file", "label"} <= columns:
        raise PipelineError(f"{table} needs the columns file and label in its first line")
    return numbered


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


def _folder(source: str, checkout: Path, work: Path, is_class: Callable[[str], bool]) -> Path:
    """A folder on this disk that holds the images of `source`."""
    if source.startswith(("http://", "https://")):
        url, _, digest = source.partition("#sha256=")
        (work / "download").mkdir()
        return _top(_unpack(download(url, digest, work / "download"), work / "unpacked"), is_class)
    folder = paths.resolve(source, checkout)
    if not folder.is_dir():
        raise PipelineError(f"there is no folder {folder} (named in params.yaml as {source}): correct the path")
    return folder


def _top(folder: Path, is_class: Callable[[str], bool]) -> Path:
    """Where an archive's images start: at its labels.csv, or below folders that wrap all and name no class."""
    tables = sorted(folder.rglob("labels.csv"))
    if tables:
        return tables[0].parent
    while len(inside := list(folder.iterdir())) == 1 and inside[0].is_dir() and not is_class(inside[0].name):
        folder = inside[0]
    return folder


def download(url: str, sha256: str, work: Path) -> Path:
    """Fetch a file into `work`, with a bar when a person watches; PipelineError if it is not the file expected."""
    name = re.sub(r"[^\w.-]", "_", url.split("?")[0].rpartition("/")[2]).strip(".") or "download"
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, (work / name).open("wb") as file:
            for piece in _pieces(answer, int(answer.headers.get("Content-Length") or 0), name):
                digest.update(piece)
                file.write(piece)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
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
    """Unpack regular files only; PipelineError for an archive that is damaged, encrypted or reaches outside."""
    target.mkdir()
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
                while tar.fileobj and tar.fileobj.read(1 << 20):
                    pass  # the checksum of a compressed archive stands at its end, after the last member
    except UNREADABLE as error:
        raise PipelineError(
            f"{archive.name} is not a readable zip or tar archive ({error}): fetch or pack it again"
        ) from None
    return target


def _write_member(name: str, content: IO[bytes] | None, target: Path) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise PipelineError(f"the archive holds {name!r}, which would be written outside its folder: pack it again")
    (target / path).parent.mkdir(parents=True, exist_ok=True)
    if content is not None:
        with (target / path).open("wb") as file:
            shutil.copyfileobj(content, file)
