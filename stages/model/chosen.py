"""Opens the model that params.yaml names: the zoo's with its weights, what was trained, or the user's own."""

from pathlib import Path
from typing import Any

from stages.contracts import paths, zoo
from stages.contracts.preprocessing import Preprocessing
from stages.core import files
from stages.model import classifier, formats, keras_zoo
from stages.model.classifier import Classifier
from stages.params.document import CUSTOM, Params


def path(setting: Params) -> Path:
    """The file or folder that holds the model or its weights."""
    if setting.trains:
        return paths.TRAINED
    if setting.model.name == CUSTOM:
        (found,) = (found for found in paths.WEIGHTS.iterdir() if found.stem == paths.OWN)
        return found
    return paths.WEIGHTS / f"weights{zoo.weights_suffix(setting.model.name)}"


def has_layers(setting: Params) -> bool:
    """Whether it is a Keras model: a SavedModel or an ONNX file is a graph."""
    return setting.trains or setting.model.name != CUSTOM or path(setting).suffix in formats.KERAS


def keras(tf: Any, setting: Params) -> Any:
    """The model with the layers of Keras, if it has them."""
    source = path(setting)
    if setting.trains:
        return tf.keras.models.load_model(source, compile=False)
    if setting.model.name != CUSTOM:
        return keras_zoo.build(tf, setting.model.name, source)
    return formats.load_keras(tf, source)


def open_classifier(tf: Any, setting: Params) -> Classifier:
    """The model as a function from images to probabilities."""
    if has_layers(setting):
        return of_keras(tf, setting, keras(tf, setting))
    return classifier.classifier(tf, formats.open_model(tf, path(setting)), setting.custom)


def of_keras(tf: Any, setting: Params, network: Any, training: bool = False) -> Classifier:
    """The classifier that the model is with these layers: its own, or what was made of them."""
    if setting.model.name == CUSTOM and not setting.trains:
        return classifier.classifier(tf, formats.of_keras(tf, network, training), setting.custom)
    prepared = (
        Preprocessing.from_json(files.read_json(paths.TRAIN)["preprocessing"])
        if setting.trains
        else keras_zoo.preprocessing(tf, setting.model.name, network)
    )

    def call(images: Any) -> Any:
        return network(images, training=training)

    # The variables alone: a whole Keras model takes four times as long to load.
    return Classifier(call, network.variables, prepared, network.output_shape[-1], network.count_params())
