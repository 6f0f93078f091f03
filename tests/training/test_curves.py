import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.errors import PipelineError
from stages.training import curves

FIRST = {"seed": 3, "epoch": 0, "val_loss": 0.5, "val_accuracy": 0.875}
SECOND = FIRST | {"epoch": 1, "learning_rate": 1e-3, "loss": 1.25, "accuracy": 0.5, "val_loss": 0.25, "epoch_s": 7.5}


def test_a_curve_is_read_as_it_was_written(tmp_path: Path) -> None:
    curves.write_curves([FIRST, SECOND, FIRST | {"seed": 4}], tmp_path / "a.csv")
    assert curves.read_curve(tmp_path / "a.csv", 3) == [FIRST, SECOND]
    assert curves.read_curve(tmp_path / "a.csv", 4) == [FIRST | {"seed": 4}]
    assert curves.read_curve(tmp_path / "a.csv", 5) == []


def test_no_training_leaves_a_header(tmp_path: Path) -> None:
    curves.write_curves([], tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == ",".join(curves.COLUMNS) + "\n"


@pytest.mark.parametrize("text", ["epoch\n1\n", ",".join(curves.COLUMNS) + "\n3,first\n"])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(PipelineError):
        curves.read_curve(tmp_path / "a.csv", 3)


def test_reading_a_curve_imports_no_tensorflow() -> None:
    code = "import sys, stages.training.curves; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
