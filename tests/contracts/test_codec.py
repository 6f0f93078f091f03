"""Records survive the trip to disk; what is damaged, of another schema or not finite names its file and field."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stages.contracts import codec
from stages.contracts.conversion import Conversion, Proof
from stages.contracts.status import OK, Status
from stages.contracts.timing import Memory, RepeatTiming, Timing, VariantTiming, WarmUp
from stages.contracts.variant import Variant
from stages.core.errors import PipelineError

PROOF = Proof("tensor_types", {"int8": 53}, {"xnnpack": True, "engine_build_s.batch8": 12.5, "form": None}, ("a note",))
CONVERTED = Conversion(Variant("tflite", "int8", qat=True), OK, 2.5, {"model.tflite": 84_040}, "ab" * 32, PROOF)
FAILED = Conversion(Variant("tensorrt", "fp16"), Status("skipped", "no NVIDIA GPU"))


@pytest.mark.parametrize("record", [CONVERTED, FAILED])
def test_a_record_survives_the_trip(record: Conversion, tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "convert.json"
    codec.write(record, path)
    assert codec.read(Conversion, path) == record
    assert list(json.loads(path.read_text()))[:2] == ["schema", "variant"]


def written(tmp_path: Path, change: Any) -> Path:
    path = tmp_path / "convert.json"
    value = json.loads(codec.encode(CONVERTED, "x"))
    change(value)
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda value: value.update(seconds="long"), "seconds"),
        (lambda value: value["proof"]["layers"].update(int8="many"), "proof.layers[...]"),
        (lambda value: value["status"].update(state="fine"), "status.state"),
        (lambda value: value.pop("variant"), "variant"),
        (lambda value: value["variant"].pop("runtime"), "variant.runtime"),
    ],
)
def test_a_damaged_field_is_named_with_its_file(change: Any, field: str, tmp_path: Path) -> None:
    path = written(tmp_path, change)
    with pytest.raises(PipelineError, match=r"delete it and run `make repro`$") as caught:
        codec.read(Conversion, path)
    assert (caught.value.code, caught.value.values) == ("record-field", {"file": str(path), "field": field})
    assert str(path) in str(caught.value) and f"`{field}`" in str(caught.value)


def test_fields_of_a_newer_writer_are_ignored(tmp_path: Path) -> None:
    path = written(tmp_path, lambda value: value.update(later=1))
    assert codec.read(Conversion, path) == CONVERTED


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, lambda value: value.update(schema=99))
    with pytest.raises(PipelineError) as caught:
        codec.read(Conversion, path)
    assert (caught.value.code, caught.value.values["schema"]) == ("record-schema", 99)


def test_a_record_without_a_schema_is_of_an_older_version(tmp_path: Path) -> None:
    path = written(tmp_path, lambda value: value.pop("schema"))
    with pytest.raises(PipelineError) as caught:
        codec.read(Conversion, path)
    assert (caught.value.code, caught.value.values["schema"]) == ("record-schema", 0)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"schema": 1,}'])
def test_what_is_no_json_says_so(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "convert.json"
    path.write_bytes(content)
    with pytest.raises(PipelineError) as caught:
        codec.read(Conversion, path)
    assert caught.value.code == "record-damaged"


def test_a_missing_record_names_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="run `make repro`") as caught:
        codec.read(Conversion, tmp_path / "convert.json")
    assert caught.value.code == "record-missing"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_by_name_and_nothing_is_written(value: float, tmp_path: Path) -> None:
    path = tmp_path / "benchmark.json"
    warm = WarmUp(1.0, 11, True, {"latency": value})
    repeats = (RepeatTiming(2.0, Memory(False, 1, None), {"8": warm}),)
    timing = Timing(10, {"tflite-int8": VariantTiming(OK, repeats)})
    with pytest.raises(PipelineError) as caught:
        codec.write(timing, path)
    assert caught.value.code == "record-not-finite"
    assert caught.value.values["field"] == "variants.tflite-int8.repeats[0].warm_up.8.call_ms.latency"
    assert not path.exists()


def test_a_key_that_is_not_finite_is_refused() -> None:
    with pytest.raises(PipelineError) as caught:
        codec.plain({"bins": {math.nan: 1}}, "a.json")
    assert (caught.value.code, caught.value.values["field"]) == ("record-not-finite", "bins.nan")


def test_a_conversion_without_files_has_no_size() -> None:
    assert (CONVERTED.size_bytes, FAILED.size_bytes, replace(CONVERTED, files={}).size_bytes) == (84_040, None, None)


def test_facts_below_a_name() -> None:
    assert PROOF.under("engine_build_s") == {"batch8": 12.5}
