"""The classic case: MobileNetV2 on ImageNet, once through the whole pipeline, with real weights where they are."""

from pathlib import Path

import pytest

from tests.pipeline.project import WEIGHTS, Project, start
from tests.pipeline.project import no_leftovers as no_leftovers

pytestmark = pytest.mark.slow

VARIANTS = ["savedmodel-fp32", "tflite-fp32", "tflite-int8"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = start(tmp_path_factory, VARIANTS)
    made.repro_ok()
    return made


def test_int8_is_smaller_and_fp32_answers_as_the_baseline_does(project: Project) -> None:
    rows = project.rows()
    for row in rows.values():
        assert row.status.ok and row.footprint and row.footprint.peak_memory_bytes > 50e6
    sizes = [rows[name].size_bytes or 0 for name in ("tflite-int8", "tflite-fp32")]
    assert 0 < sizes[0] < sizes[1] / 3
    accuracy = rows["tflite-fp32"].accuracy
    assert accuracy and accuracy.agreement == 1.0


def test_tensorflow_is_imported_only_where_it_is_needed(project: Project) -> None:
    """save, two TFLite conversions, and the baseline's evaluation and benchmark."""
    pids = Path(project.environment["TF_IMPORT_LOG"]).read_text().split()
    assert len(set(pids)) == 5


@pytest.mark.skipif(not WEIGHTS.exists(), reason="the MobileNetV2 weights and photographs of ../shared are not here")
def test_real_weights_classify_real_photographs(project: Project) -> None:
    accuracy = project.rows()["savedmodel-fp32"].accuracy
    assert accuracy and accuracy.top1.value >= 4 / 6
    photo = min((project.folder / "photos").glob("*.[jp]*g"))
    assert "tench" in project.ok("python", "-m", "stages", "predict", "--variant", "tflite-int8", str(photo))
