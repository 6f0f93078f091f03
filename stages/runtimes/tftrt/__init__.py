"""TensorRT engines inside a TensorFlow graph (TF-TRT), on an NVIDIA GPU; every answer is proven to come from them."""

from ..description import Description, Servers
from .options import Options

DESCRIPTION = Description(
    name="tftrt",
    precisions=("fp32", "fp16", "int8"),
    starts_from="saved_model",
    options=Options,
    requires=(("tensorflow[and-cuda]",),),
    servers=Servers(triton="tensorflow_savedmodel", tensorflow_serving=True),
    uses_gpu=True,
    gpu_lock="tftrt",
)
