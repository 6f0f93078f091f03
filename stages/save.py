"""Save the model as a SavedModel with one signature, `serving_default`: a zoo's with its weights, or the user's own."""

from dataclasses import asdict

from stages.contracts import labels, paths
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.core.tensorflow import tensorflow
from stages.model import chosen, saved_model
from stages.params import document
from stages.params.document import CUSTOM


def main() -> None:
    """Read params, build, save, compare with the reloaded model, and write the SavedModel and its record."""
    setting = document.load()
    name, classes, tf = setting.model.name, labels.read(), tensorflow()
    model = chosen.open_classifier(tf, setting)
    if model.classes != len(classes):
        raise PipelineError(
            f"{name} has {model.classes} outputs, but its label set has {len(classes)} classes "
            f"({', '.join(classes.names[:3])}, ...)" + (": correct custom.labels" if name == CUSTOM else "")
        )
    with files.new_directory(paths.SAVED_MODEL) as folder:
        gap = saved_model.write(tf, model, folder, name)
    record = {
        "name": name,
        "weights_sha256": files.digest(chosen.path(setting)),
        "parameters": model.parameters,
        "input_shape": model.preprocessing.shape,
        "classes": model.classes,
        "preprocessing": asdict(model.preprocessing),
        "training": files.read_json(paths.TRAIN) if setting.trains else None,
        "save_difference": gap,
        "size_bytes": sum(files.sizes(paths.SAVED_MODEL).values()),
    }
    files.write_json(paths.MODEL, record)


if __name__ == "__main__":
    errors.run(main)
