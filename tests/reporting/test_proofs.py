from dataclasses import replace

from stages.contracts.conversion import Conversion, Proof
from stages.contracts.row import Footprint, Row
from stages.contracts.timing import Parts
from stages.reporting import proofs
from tests.reporting.rows import BASELINE, INT8, row, speed

SAVED = Proof(
    "saved_model", {}, {"tf32": True, "variables_bytes": 14_500_000, "graph_bytes": 2_700_000, "engine_bytes": 0}
)
CONVERTED = Proof(
    "trt_ops",
    {},
    {
        "tf32": False, "engine_ops": 2, "share_in_engines": 0.994, "ops_outside.Identity": 1,
        "ops_outside.Placeholder": 1, "engine_build_s.batch1": 26.0, "engine_build_s.batch8": 30.4,
        "variables_bytes": 0, "graph_bytes": 14_000_000, "engine_bytes": 31_100_000,
        "tensorrt_linked": "8.4.3", "tensorrt_loaded": "8.5.3",
    },
)  # fmt: skip
NATIVE = Proof(
    "engine_layers",
    {"int8": 104, "fp16": 2},
    {
        "tf32": True, "form": "each", "engine_build_s.batch1": 26.0, "engine_build_s.batch8": 30.4,
        "engine_bytes": 9_100_000, "tensorrt": "TensorRT 8.5.3.1",
    },
)  # fmt: skip
ON_GPU = Footprint(True, 300_000_000, 201_400_000, 700_000_000)


def proven(name: str, proof: Proof, footprint: Footprint = ON_GPU) -> Row:
    """A variant on a GPU whose conversion took minutes."""
    made = row(name, proof=proof, footprint=footprint)
    assert isinstance(made.conversion, Conversion)
    return replace(made, conversion=replace(made.conversion, seconds=419.5))


def lines(*rows: Row) -> list[dict[str, dict[str, str]]]:
    """The tables by variant and column."""
    sections = proofs.proofs(rows)
    return [{line[0]: dict(zip(one.cells[0], line, strict=True)) for line in one.cells[1:]} for one in sections]


def test_what_engines_took_over_stands_beside_the_graph_without_them() -> None:
    saved = proven("savedmodel-fp32", SAVED, replace(ON_GPU, gpu_peak_memory_bytes=None))
    (shown,) = lines(saved, INT8, proven("tftrt-fp32", CONVERTED))
    assert shown == {
        "savedmodel-fp32": {
            "variant": "savedmodel-fp32", "TF32": "on", "TensorRT linked": "", "TensorRT loaded": "",
            "outside the engines": "", "engine ops": "", "nodes in engines %": "", "convert s": "420", "build s": "",
            "variables MB": "14.5", "graph MB": "2.7", "engines MB": "0.0", "GPU memory MB": "700", "GPU peak MB": "",
        },
        "tftrt-fp32": {
            "variant": "tftrt-fp32", "TF32": "off", "TensorRT linked": "8.4.3", "TensorRT loaded": "8.5.3",
            "outside the engines": "1 Identity, 1 Placeholder", "engine ops": "2", "nodes in engines %": "99.4",
            "convert s": "420", "build s": "56", "variables MB": "0.0", "graph MB": "14.0", "engines MB": "31.1",
            "GPU memory MB": "700", "GPU peak MB": "201",
        },
    }  # fmt: skip


def test_native_engines_stand_in_a_table_of_their_own() -> None:
    native = proven("tensorrt-int8", NATIVE, replace(ON_GPU, gpu_peak_memory_bytes=12_600_000))
    native = replace(native, speeds=(speed(4.0), speed(4.0, 8, Parts(0.1, 0.25, 0.0061))))
    (shown,) = lines(BASELINE, native)
    assert shown == {
        "tensorrt-int8": {
            "variant": "tensorrt-int8", "TF32": "on", "built by": "TensorRT 8.5.3.1", "engines for batch": "1, 8",
            "layers INT8 / FP16 / FP32": "104 / 2 / 0", "convert s": "420", "build s": "56", "engines MB": "9.1",
            "copy in ms, batch 8": "0.100", "compute ms, batch 8": "0.250", "copy out ms, batch 8": "0.006",
            "GPU memory MB": "700", "GPU peak MB": "13",
        },
    }  # fmt: skip


def test_a_saved_model_alone_has_nothing_to_prove() -> None:
    assert lines(proven("savedmodel-fp32", SAVED), INT8) == []


def test_gpu_memory_that_nvml_does_not_tell_is_an_empty_cell() -> None:
    unknown = replace(ON_GPU, gpu_process_memory_bytes=None)
    rows = (proven("tftrt-fp32", CONVERTED, unknown), proven("tensorrt-int8", NATIVE, unknown))
    assert [line["GPU memory MB"] for one in lines(*rows) for line in one.values()] == ["", ""]


def test_a_variant_that_failed_after_its_conversion_proves_nothing() -> None:
    failed = replace(proven("tensorrt-int8", NATIVE), status=replace(BASELINE.status, state="failed"), speeds=())
    assert lines(failed) == []
