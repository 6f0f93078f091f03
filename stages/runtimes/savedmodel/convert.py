"""The baseline is the SavedModel itself."""

import shutil
from pathlib import Path

from ...contracts.conversion import ConvertJob, Proof
from ..shared.saved_model import part_sizes
from .options import Options


def convert(job: ConvertJob, options: Options) -> Proof:
    """Copy."""
    shutil.copytree(job.saved_model, job.target, dirs_exist_ok=True)
    return Proof("saved_model", {}, {"tf32": options.tf32, **part_sizes(Path(job.target))})
