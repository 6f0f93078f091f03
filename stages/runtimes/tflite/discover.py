"""LiteRT runs on every CPU it installs on; TensorFlow converts for it."""

from ...contracts.environment import Discovery, Machine
from ..shared import distributions
from . import DESCRIPTION

WHEEL = "ai-edge-litert"


def discover(machine: Machine) -> Discovery:
    """The LiteRT and the TensorFlow that are installed."""
    versions = distributions.versions(WHEEL, *distributions.WHEELS)
    missing = None if WHEEL in versions else f"LiteRT is not installed: `pip install {WHEEL}`"
    return Discovery(versions, dict.fromkeys(DESCRIPTION.precisions, missing))
