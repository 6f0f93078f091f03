"""The SavedModel as TensorFlow runs it: the baseline that every other variant is compared with."""

from ..description import Description, Servers
from .options import Options

DESCRIPTION = Description(
    name="savedmodel",
    precisions=("fp32",),
    starts_from="saved_model",
    options=Options,
    requires=(("tensorflow[and-cuda]", "nvidia-cudnn-cu12"), ("tensorflow-cpu",), ("tensorflow",)),
    servers=Servers(triton="tensorflow_savedmodel", tensorflow_serving=True),
    uses_gpu=True,
    gpu_lock="savedmodel-gpu",
)
