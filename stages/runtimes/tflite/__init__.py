"""TFLite files, converted by TensorFlow and run on the CPU by LiteRT, which imports in a hundredth of the time."""

from ..description import Description, Servers
from .options import Options

DESCRIPTION = Description(
    name="tflite",
    precisions=("fp32", "fp16", "dynamic", "int8"),
    starts_from="saved_model",
    options=Options,
    requires=(("ai-edge-litert",),),
    servers=Servers(tensorflow_serving=True),  # Triton has no official backend for it
    qat=True,
)
