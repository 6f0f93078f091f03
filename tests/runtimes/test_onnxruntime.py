import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from stages import to_onnx
from stages.common.errors import PipelineError
from stages.common.tf import tensorflow
from stages.runtimes import onnxruntime
from stages.runtimes.protocol import Job, Session, infer
from tests import helpers
from tests.helpers import save_tiny

SHAPE, CLASSES = (8, 8, 3), 6
OPTIONS = {"calibrator": "minmax", "reduce_range": True}


example = partial(helpers.example, shape=SHAPE)
calibration = partial(helpers.calibration, shape=SHAPE)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """ONNX file of a convolution and a softmax, and the same as a function of NumPy arrays."""
    folder = tmp_path_factory.mktemp("model")
    answer = save_tiny(folder / "saved_model", SHAPE, CLASSES)
    tf = tensorflow()
    saved = tf.saved_model.load(str(folder / "saved_model"))
    exported = to_onnx.export(saved.signatures["serving_default"])
    (folder / "model.onnx").write_bytes(exported.SerializeToString())
    return folder / "model.onnx", answer


def converted(model: tuple[Path, Any], target: Path, precision: str, **options: Any) -> tuple[dict[str, Any], Session]:
    chosen = OPTIONS | options
    job = Job(Path("unused"), model[0], target, precision, SHAPE, calibration, (1, 4), chosen)
    return onnxruntime.convert(job), onnxruntime.load(target, precision, chosen, 1)


def weights(path: Path) -> list[Any]:
    """The stored INT8 weights."""
    found = [onnx.numpy_helper.to_array(constant) for constant in onnx.load(path).graph.initializer]
    return [array for array in found if array.dtype == np.int8 and array.ndim > 1]


def test_onnx_runtime_is_the_only_need(machine: dict[str, Any]) -> None:
    assert onnxruntime.unavailable("int8", machine) is None
    assert onnxruntime.unavailable("int8", machine | {"onnxruntime": None}) == (
        "ONNX Runtime is not installed: `pip install onnxruntime`"
    )


def test_a_champion_loads_without_what_only_converting_needs(model: tuple[Path, Any], tmp_path: Path) -> None:
    converted(model, tmp_path, "fp32")
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['tqdm', 'onnx', 'tensorflow', 'tf2onnx']))\n"
        "from pathlib import Path; from stages.runtimes import onnxruntime\n"
        f"onnxruntime.load(Path({str(tmp_path)!r}), 'fp32', {{}}, 1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fp32_answers_as_the_model_does_at_any_batch_size(model: tuple[Path, Any], tmp_path: Path) -> None:
    details, session = converted(model, tmp_path, "fp32")
    assert (details["int8_layers"], details["fp32_layers"]) == (0, 2)
    for size in (1, 4, 3):
        np.testing.assert_allclose(infer(session, example(size)), model[1](example(size)), atol=1e-6)


@pytest.mark.parametrize("calibrator", ["minmax", "percentile", "entropy"])
def test_int8_computes_every_layer_in_int8_and_stays_near(
    model: tuple[Path, Any], tmp_path: Path, calibrator: str
) -> None:
    details, session = converted(model, tmp_path, "int8", calibrator=calibrator)
    assert (details["int8_layers"], details["fp32_layers"]) == (2, 0)
    assert (details["calibrator"], details["reduce_range"]) == (calibrator, True)
    assert details["operations"]["QLinearConv"] == 1
    for size in (1, 4):
        found = infer(session, example(size))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, model[1](example(size)), atol=0.06)


@pytest.mark.parametrize(("reduce_range", "largest"), [(True, 64), (False, 127)])
def test_a_reduced_range_takes_seven_bits(
    model: tuple[Path, Any], tmp_path: Path, reduce_range: bool, largest: int
) -> None:
    converted(model, tmp_path, "int8", reduce_range=reduce_range)
    stored = weights(tmp_path / onnxruntime.FILE)
    assert len(stored) == 2
    assert max(np.abs(array.astype(int)).max() for array in stored) == largest


def test_weights_have_a_scale_for_each_channel(model: tuple[Path, Any], tmp_path: Path) -> None:
    converted(model, tmp_path, "int8")
    scales = [c for c in onnx.load(tmp_path / onnxruntime.FILE).graph.initializer if c.name.endswith("_scale")]
    assert {8, 6} <= {c.dims[0] for c in scales if c.dims}


def test_a_graph_without_an_int8_layer_is_a_failure(
    model: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(job: Job, path: Path) -> None:
        path.write_bytes(job.onnx.read_bytes())

    monkeypatch.setattr(onnxruntime, "quantise", forget)
    with pytest.raises(PipelineError, match="computes no layer of the quantised graph in INT8"):
        converted(model, tmp_path, "int8")


def test_the_calibration_set_is_read_image_by_image_and_to_its_end() -> None:
    found = onnxruntime.CalibrationSet(lambda: calibration(1))
    assert len(found) == 20
    assert found.get_next() is None
    seen = 0
    for start in range(0, len(found), 5):
        found.set_range(start_index=start, end_index=start + 5)
        while (item := found.get_next()) is not None:
            assert item["images"].shape == (1, *SHAPE)
            seen += 1
    assert seen == 20


def test_the_number_of_threads_is_set(model: tuple[Path, Any]) -> None:
    session = onnxruntime.ONNXRuntimeSession(model[0], 3)
    assert session._session.get_session_options().intra_op_num_threads == 3


def test_quantising_is_silent(model: tuple[Path, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    converted(model, tmp_path, "int8", calibrator="entropy")
    assert capfd.readouterr().out == ""
