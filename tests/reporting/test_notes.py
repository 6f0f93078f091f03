from dataclasses import replace

import pytest

from stages.contracts.conversion import Build, Proof
from stages.contracts.evaluation import Answered
from stages.contracts.row import HERE, Doubt, GpuConditions, Permuted
from stages.reporting import notes
from tests.fixtures.records import CPU_MACHINE, GPU_MACHINE, environment
from tests.reporting.rows import BASELINE, INT8, MIXED, NO_MEMORY, accuracy, row, stopped, summary

CONDITIONS = GpuConditions(20, None, None, None, None, {"power cap": 3}, 2)
THROTTLED, CRAMPED = Doubt("throttled", 3, cause="power cap"), Doubt("shared GPU", 2)
UNSTEADY = tuple(Doubt("unsteady", 0.031, batch_size=size) for size in (1, 8))


def test_a_reason_that_variants_share_is_told_once() -> None:
    assert [note.partition(" ")[0] for note in notes.notes(MIXED, 10)] == ["tftrt-fp32,", "tflite-fp32"]
    assert notes.notes(MIXED, 10)[0].startswith("tftrt-fp32, tftrt-int8 skipped: ")


def test_the_status_has_each_doubt_in_a_word() -> None:
    assert notes.status(BASELINE) == "ok"
    assert notes.status(replace(INT8, doubts=(THROTTLED, CRAMPED, *UNSTEADY))) == "ok, throttled, shared GPU, unsteady"
    assert notes.status(stopped("tflite-fp32", NO_MEMORY)) == "failed"
    crowded = tuple(Doubt("busy CPU", share, batch_size=size) for size, share in ((1, 0.48), (8, 0.31)))
    assert notes.status(replace(INT8, doubts=crowded)) == "ok, busy CPU (48 % taken by others)"


def test_every_doubt_has_its_sentence() -> None:
    doubtful = notes.notes([replace(INT8, gpu=CONDITIONS, doubts=(THROTTLED, CRAMPED, *UNSTEADY))], 10)
    assert [note.split(":")[0] for note in doubtful] == [
        f"tflite-int8 {kind}" for kind in ("throttled", "shared GPU", "unsteady", "unsteady")
    ]
    figures = ("3 of 20 blocks", "2 other processes", "batch 1 varies by 3.1%", "batch 8 varies by 3.1%")
    assert all(figure in note for figure, note in zip(figures, doubtful, strict=True))


def test_who_took_the_cpus_is_told_once_for_all_batch_sizes() -> None:
    busy = tuple(Doubt("busy CPU", share, batch_size=size) for size, share in ((1, 0.48), (8, 0.31)))
    told = notes.notes([replace(INT8, doubts=(*busy, Doubt("CPU quota", 0.2, batch_size=8)))], 10)
    assert [note.split(":")[0] for note in told] == ["tflite-int8 busy CPU", "tflite-int8 CPU quota"]
    assert "48 % of the CPUs at batch 1 and 31 % of the CPUs at batch 8" in told[0]


def test_what_the_proof_tells_follows_the_name_of_a_variant_that_ran() -> None:
    proof = Proof("engine_layers", {}, {}, ("has one engine for all batch sizes", "keeps FP32 weights in conv1"))
    proven = row("tensorrt-int8", proof=proof)
    assert notes.notes([proven], 10) == [f"tensorrt-int8 {note}" for note in proof.notes]
    assert notes.notes([replace(proven, status=NO_MEMORY)], 10) == ["tensorrt-int8 failed: convert: no memory"]


def test_images_that_a_tag_turns_are_told_with_what_was_done() -> None:
    assert notes.prepared(summary(MIXED)) == []
    found = summary(MIXED)
    found = replace(found, evaluation=replace(found.evaluation, images=72, turned=36))
    assert notes.prepared(found)[0].startswith(
        "36 of 72 evaluation images have an EXIF tag that turns them, and were t"
    )
    trusted = replace(found.model, trusted=True)
    assert notes.prepared(replace(found, model=trusted))[0].startswith("the model's file was opened unchecked")
    layered = replace(found.model, inside=("its layer unit scales its input by 0.004",))
    assert len(notes.prepared(replace(found, model=layered))) == 2
    stored = replace(found.model.preprocessing, orientation=False)
    (told,) = notes.prepared(replace(found, model=replace(found.model, preprocessing=stored)))
    assert "were taken as they are stored: custom.orientation" in told


def answers(name: str, answered: Answered) -> list[str]:
    """What is told of a variant whose model of 500 classes so answers 100 images."""
    told = replace(row(name), accuracy=replace(accuracy(70, 100), answered=answered))
    return [note for note in notes.notes([told], 500) if "of 100" in note]


def test_images_without_an_answer_are_counted_and_the_first_named() -> None:
    (told,) = answers("tflite-fp16", Answered(1, ("blue/flat_0.png",)))
    assert told.startswith("tflite-fp16 1 of 100 images have no answer (NaN or infinity), such as blue/flat_0.png")


@pytest.mark.parametrize(("name", "step"), [("tflite-int8", "8 bits"), ("tflite-fp32", "its answers")])
def test_images_on_which_no_class_is_the_best_are_counted(name: str, step: str) -> None:
    (told,) = answers(name, Answered(tied=70))
    assert f"70 of 100: {step} cannot tell 500 classes apart" in told


def test_classes_in_another_order_are_told_first_of_all() -> None:
    moved = replace(BASELINE, accuracy=replace(accuracy(36, 198), permuted=Permuted(9, 11, 198, 36, 198)))
    told = notes.notes([*MIXED[1:], moved], 11)
    assert told[0] == (
        "9 of 11 classes are answered as another one throughout: name the classes in their order in custom.labels"
    )
    assert told[1:] == notes.notes(MIXED[1:], 11)
    assert notes.notes([moved], 11, " on NVIDIA T4") == []


@pytest.mark.parametrize(("second", "words"), [("b", "2 different"), ("a", "all alike")])
def test_builds_are_told_with_their_spread(second: str, words: str) -> None:
    made = (Build(1.0, 31_000_000, "a", 0.73), Build(1.0, 30_900_000, second, 0.78))
    assert notes.builds(made).split(": ")[1] == f"p50 0.73 to 0.78 ms, 30.90 to 31.00 MB, {words}"


def test_notes_on_other_devices_name_them() -> None:
    devices = {HERE: environment(CPU_MACHINE), "T4": environment(GPU_MACHINE)}
    failed = replace(stopped("tflite-fp32", NO_MEMORY), device="T4")
    results = replace(summary(*MIXED, failed), environments=devices)
    assert notes.other_notes(results) == ["tflite-fp32 on NVIDIA T4 failed: convert: no memory"]
    assert notes.other_notes(summary(*MIXED)) == []
