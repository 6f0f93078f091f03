"""Opens the model that params.yaml names: the zoo's with its weights, what was trained, or the user's own."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from stages.contracts import codec, zoo
from stages.contracts.model import CUSTOM_STEM, WEIGHTS
from stages.contracts.preprocessing import Preprocessing
from stages.contracts.training import TRAIN, TRAINED, Training, TrainRecord
from stages.core.errors import PipelineError
from stages.core.shown import say
from stages.model import classifier, door_keras, float32, formats, found_layers, keras_zoo
from stages.model.classifier import Classifier
from stages.params.model import CUSTOM, CustomParams, ModelParams

if TYPE_CHECKING:
    from keras import Model as Network
    from tensorflow import Tensor


@dataclass(frozen=True)
class ChosenModel:
    """The model that these two blocks describe, and that lies where `download` and `train` leave it."""

    model: ModelParams
    custom: CustomParams

    @property
    def path(self) -> Path:
        """The file or folder that holds the model or its weights."""
        if self.model.trains:
            return TRAINED
        if self.model.name == CUSTOM:
            (path,) = (path for path in WEIGHTS.iterdir() if path.stem == CUSTOM_STEM)
            return path
        return WEIGHTS / f"weights{zoo.weights_suffix(self.model.name)}"

    @property
    def has_layers(self) -> bool:
        """Whether it is a Keras model: a SavedModel or an ONNX file is a graph."""
        return self.model.trains or self.model.name != CUSTOM or self.path.suffix in formats.KERAS

    def network(self, tf: ModuleType) -> "Network":
        """The model with the layers of Keras, if it has them."""
        if self.model.trains:
            return tf.keras.models.load_model(self.path, compile=False)
        if self.model.name != CUSTOM:
            return keras_zoo.build(tf, self.model.name, self.path)
        return formats.load_keras(tf, self.path, self.model.trusted)

    def classifier(self, tf: ModuleType) -> Classifier:
        """The model as a function from images to probabilities."""
        if self.has_layers:
            made = self.classifier_of(tf, self.network(tf))
            made = replace(made, inside=(*self._rebuilt, *made.inside))
            for sentence in made.inside:
                say(sentence)
            return made
        return classifier.classifier(tf, formats.open_model(tf, self.path, self.model.trusted), self.custom)

    def classifier_of(self, tf: ModuleType, network: "Network", training: bool = False) -> Classifier:
        """The classifier that the model is with these layers: its own, or what was made of them."""
        if self.model.name == CUSTOM and not self.model.trains:
            found = found_layers.find(network)
            custom = found_layers.unscaled(self.custom, found)
            made = classifier.classifier(tf, formats.of_keras(tf, network, training), custom)
            return replace(made, inside=found_layers.told(self.custom, found))

        def call(images: "Tensor") -> "Tensor":
            return network(images, training=training)

        prepared = self._preprocessing(tf, network)
        # The variables alone: a whole Keras model takes four times as long to load.
        return Classifier(call, formats.held(network), prepared, network.output_shape[-1], network.count_params())

    @property
    def _rebuilt(self) -> tuple[str, ...]:
        """What was changed of the user's own Keras model before it is used."""
        own = self.model.name == CUSTOM and not self.model.trains
        return float32.told(door_keras.read(self.path).model) if own else ()

    @property
    def training(self) -> Training | None:
        """How it was trained, if here."""
        return codec.read(TrainRecord, TRAIN).training if self.model.trains else None

    def _preprocessing(self, tf: ModuleType, network: "Network") -> Preprocessing:
        """As the model was trained, here or by its publisher."""
        if not self.model.trains:
            return keras_zoo.preprocessing(tf, self.model.name, network)
        if (training := self.training) is None:
            raise PipelineError(
                f"{TRAIN} is of a run without training: run `make repro`", code="not-trained", file=str(TRAIN)
            )
        return training.preprocessing
