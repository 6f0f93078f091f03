"""TensorFlow runs everywhere."""

from ...contracts.environment import Discovery, Machine
from ..shared import distributions
from . import DESCRIPTION


def discover(machine: Machine) -> Discovery:
    """The TensorFlow that is installed, with its CUDA."""
    return Discovery(distributions.versions(*distributions.TENSORFLOW), dict.fromkeys(DESCRIPTION.precisions))
