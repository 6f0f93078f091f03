from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.contracts.variant import BASELINE
from stages.params import choice, data, document, execution, load, measurement, model, tracking, training
from stages.runtimes import registry
from stages.runtimes.description import Description
from tests.fixtures.params import CUSTOM, TRAINED, Change, Edit, mistakes

MODULES = (model, data, training, measurement, choice, execution, tracking)
BLOCKS: list[Any] = [
    kind
    for module in MODULES
    for kind in vars(module).values()
    if isinstance(kind, type) and hasattr(kind, "KEY") and kind.__module__ == module.__name__
]


def test_the_shipped_file_is_right(checkout: Path) -> None:
    params = document.check()
    assert params.model.name == "efficientnet_lite0"
    assert params.benchmark.batch_sizes == (1, 8)
    assert params.variants[0] == BASELINE.name


def test_every_key_of_the_file_belongs_to_one_block(checkout: Path) -> None:
    values = yaml.safe_load(load.PARAMS.read_text())
    owners = Counter([*(kind.KEY for kind in BLOCKS), "variants", *registry.RUNTIMES])
    assert owners == Counter(list(values))
    for kind in BLOCKS:
        assert [field.name for field in fields(kind)] == list(values[kind.KEY])
    for runtime in registry.RUNTIMES:
        assert [field.name for field in fields(registry.description(runtime).options)] == list(values[runtime])


def test_each_block_reads_the_same_alone_as_in_the_whole(checkout: Path) -> None:
    params = document.check()
    for kind in BLOCKS:
        assert load.read(kind) == getattr(params, kind.KEY)
    assert measurement.variants() == params.variants


def test_a_runtime_may_be_left_out_and_the_shipped_values_are_its_defaults(checkout: Path) -> None:
    shipped = document.check().runtimes
    assert list(shipped) == list(registry.RUNTIMES)
    assert shipped == {name: load.options(name) for name in shipped}
    values = yaml.safe_load(load.PARAMS.read_text())
    load.PARAMS.write_text(yaml.safe_dump({key: block for key, block in values.items() if key not in shipped}))
    assert document.check().runtimes == shipped


def test_a_runtime_is_added_with_a_block_of_its_own(
    checkout: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Options:
        steps: int = 3

    toy = Description("toy", ("fp32",), "onnx", Options, ())
    monkeypatch.setitem(registry.RUNTIMES, "toy", "tests.fixtures.toy")
    others = registry.description
    monkeypatch.setattr(registry, "description", lambda name: toy if name == "toy" else others(name))
    edit(("variants", ["savedmodel-fp32", "toy-fp32"]))
    assert document.check().runtimes["toy"] == {"steps": 3}
    edit(("toy", {"steps": "many", "stpes": 1}))
    assert mistakes() == {"toy.steps": "int-type", "toy.stpes": "unknown-key"}


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("tflite.xnnpack", 1, "bool-type"),
        ("tflite.xnnpack", "yes", "bool-type"),
        ("tflite.xnpack", True, "unknown-key"),
        ("tflite", None, "dataclass-type"),
        ("onnxruntime.calibrator", "mean", "literal-error"),
        ("tensorrt.engines", None, "literal-error"),
        ("tensorrt.max_workspace_mib", 0, "options-refused"),
        ("tensorrt.max_workspace_mib", 1.5, "int-type"),
        ("tftrt.minimum_segment_size", 0, "options-refused"),
        ("tftrt.minimum_segment_size", 10**7, "options-refused"),
        ("tftrt.minimum_segment_size", None, "int-type"),
        ("tftrt.maximum_cached_engines", -1, "options-refused"),
    ],
)
def test_options_of_a_runtime_are_checked_strictly(edit: Edit, key: str, value: Any, code: str) -> None:
    edit((key, value))
    assert mistakes() == {key: code}


def test_every_wrong_key_of_every_block_is_reported_at_once(edit: Edit) -> None:
    edit(("evaluation.batch_size", 0), ("calibration.images", "x"), ("tracking.extra", 1), ("modle", 1))
    edit(("variants", ["tflite-int4", "tflite"]), ("tflite.xnnpack", None), ("model.path", "own.keras"))
    assert mistakes() == {
        "evaluation.batch_size": "greater-than-equal",
        "calibration.images": "int-type",
        "tracking.extra": "unknown-key",
        "modle": "unknown-key",
        "variants[0]": "unknown-variant",
        "variants[1]": "unknown-variant",
        "tflite.xnnpack": "bool-type",
        "model.path": "path-unused",
    }


def test_every_contradiction_between_blocks_is_reported_at_once(edit: Edit) -> None:
    edit(("select.batch_size", 3), ("budget.p99_batch_size", 5), ("budget.max_top1_drop", 0.01))
    edit(("variants", ["tflite-fp32"]), ("calibration.source", "split"), ("tftrt.maximum_cached_engines", 1))
    assert mistakes() == {
        "select.batch_size": "not-measured",
        "budget.p99_batch_size": "not-measured",
        "budget.max_top1_drop": "no-baseline",
        "split.source": "nothing-to-split",
        "tftrt": "batch-sizes",
    }


def test_fewer_cached_engines_than_batch_sizes_are_refused(edit: Edit) -> None:
    edit(("tftrt.maximum_cached_engines", 2), ("benchmark.batch_sizes", [1, 32]), ("evaluation.batch_size", 8))
    assert mistakes() == {"tftrt": "batch-sizes"}
    edit(("tftrt.maximum_cached_engines", 3))
    document.check()
    edit(("tftrt.maximum_cached_engines", 2), ("tftrt.dynamic_shapes", True))
    document.check()


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ((*TRAINED, ("split.source", None)), {"split.source": "nothing-to-split"}),
        ((("calibration.source", "split"),), {"split.source": "nothing-to-split"}),
        (
            (*CUSTOM, ("train.source", "split"), ("variants", ["tensorrt-int8-qat"])),
            {"split.source": "nothing-to-split", "train.source": "split-half-used"},
        ),
        ((*TRAINED, ("evaluation.source", "photos")), {"train.source": "split-half-used"}),
        ((*TRAINED, ("custom.size", None)), {"custom.size": "size-missing"}),
        (
            (*TRAINED, ("train.backbone", "mobilenet_v2"), ("custom.mean", 0)),
            {"custom.size": "fixed-by-backbone", "custom.mean": "fixed-by-backbone"},
        ),
        *(
            (
                (*TRAINED, ("train.backbone", "mobilenet_v2"), ("custom.size", None), (f"custom.{key}", value)),
                {f"custom.{key}": "fixed-by-backbone"},
            )
            for key, value in (("size", [9, 9]), ("channels", "bgr"), ("scale", 1), ("mean", 0), ("std", 2))
        ),
    ],
)
def test_keys_that_contradict_each_other_are_named(
    edit: Edit, changes: tuple[Change, ...], wrong: dict[str, str]
) -> None:
    edit(*changes)
    assert mistakes() == wrong


def test_train_is_not_asked_of_a_model_that_is_there(edit: Edit) -> None:
    edit(*CUSTOM, ("train.source", "split"), ("train.backbone", "mobilenet_v2"), ("custom.size", [9, 9]))
    assert document.check().custom.size == (9, 9)


def test_sources_are_those_that_are_used(edit: Edit) -> None:
    unused = dict.fromkeys(("path", "labels", "split", "train", "qat"))
    assert document.check().sources == unused | {
        "weights": "imagenet", "evaluation": "sample", "calibration": "sample",
    }  # fmt: skip
    edit(*TRAINED, ("variants", ["tflite-int8-qat"]))
    assert document.check().sources == {
        "weights": "imagenet", "path": "trained", "labels": "photos", "split": "photos", "train": "split",
        "qat": "split", "evaluation": "split", "calibration": "sample",
    }  # fmt: skip
    edit(("custom.labels", "names.txt"))
    assert document.check().sources["labels"] == "names.txt"
