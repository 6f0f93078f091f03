"""The SavedModel as TensorFlow runs it: the baseline that every other variant is compared with."""

from ..description import Description, Servers
from .options import Options

DESCRIPTION = Description(
    name="savedmodel",
    precisions=("fp32",),
    starts_from="saved_model",
    options=Options,
    requires=(("tensorflow",),),
    servers=Servers(triton="tensorflow_savedmodel", tensorflow_serving=True),
    uses_gpu=True,
)
