import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import parse_yaml

from stages.core.errors import PipelineError
from stages.params import load, strict_yaml

PLACE = Path("settings.yaml")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str) -> Any:
    PLACE.write_text(text, encoding="utf-8")
    return strict_yaml.read(PLACE)


def refusal(text: str) -> tuple[str, object]:
    with pytest.raises(PipelineError) as caught:
        read(text)
    assert caught.value.values["file"] == "settings.yaml"
    return caught.value.code, caught.value.values.get("line")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("NULL", None), ("true", True), ("False", False),
        ("0", 0), ("-12", -12), ("+3", 3), ("1.5", 1.5), (".5", 0.5), ("2.", 2.0), ("1.0e-3", 0.001),
        ("-.inf", -math.inf), ("'1'", "1"), ('"null"', "null"), ("a b", "a b"),
    ],
)  # fmt: skip
def test_plain_values_are_read_as_dvc_reads_them(text: str, value: object) -> None:
    found = read(f"a: [{text}]" if text else "a:")
    assert found == ({"a": [value]} if text else {"a": None})
    assert type(found["a"][0] if text else None) is type(value)
    assert parse_yaml(PLACE.read_text(), str(PLACE)) == found


@pytest.mark.parametrize(
    "text", ["yes", "on", "n", "010", "0x1f", "0o17", "1_000", "1:30", "1e-3", "<<", "=", "12:30:45"]
)
def test_what_only_some_readers_take_for_a_value_is_text(text: str) -> None:
    assert read(f"a: {text}\n{text}: b\n") == {"a": text, text: "b"}


def test_nan_is_a_number() -> None:
    assert math.isnan(read("a: .nan")["a"])


def test_a_byte_order_mark_and_other_line_ends_are_read() -> None:
    PLACE.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    assert strict_yaml.read(PLACE) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "text",
    [
        "b: &x 1", "b: &x [*x]", "b: *x", "&x a: 1", "b: !!int many", "b: !!binary aGk=", "b: !own 1",
        "b: !!python/object/apply:os.system [id]", "b: 2026-13-45", "b: 2026-01-02 10:00:00", "? [b]\n: 1",
        "? {b: 1}\n: 1", "! b: 1", "--- 1", "---\na: 2",
        "b: " + "[" * 3000 + "]" * 3000, "b: " + "{a: " * 3000 + "}" * 3000, "b:\n " + "- " * 3000,
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_what_is_no_plain_value_is_refused_with_its_line(text: str) -> None:
    assert refusal(f"a: 1\n{text}\n") == ("params-not-plain", 2 if not text.startswith("b:\n") else 3)


@pytest.mark.parametrize("text", ["%YAML 1.1\n--- {a: on}\n", "%TAG ! tag:x,2000:\n--- {a: 1}\n"])
def test_a_directive_is_refused(text: str) -> None:
    assert refusal(text)[0] == "params-not-plain"


@pytest.mark.parametrize(
    "text", ["b: [1", "\tb: 1", "b: @x", 'b: "\\q"', "b: \0", "b: c: d", "b: 1\nb: 2", "'b': 1\nb: 2"]
)
def test_what_is_no_yaml_is_refused_with_its_line(text: str) -> None:
    code, line = refusal(f"a: 1\n{text}\n")
    assert code == "params-no-yaml" and line in (2, 3)


def test_another_encoding_is_refused_with_its_line() -> None:
    PLACE.write_bytes(b"a: 1\nb: n\xe9\n")
    with pytest.raises(PipelineError) as caught:
        strict_yaml.read(PLACE)
    assert (caught.value.code, caught.value.values["line"]) == ("params-no-yaml", 2)


def test_aliases_that_stand_for_millions_are_never_followed() -> None:
    laughs = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    assert refusal(laughs) == ("params-not-plain", 1)


def test_fifty_thousand_keys_are_read() -> None:
    assert len(read("".join(f"key{number}: 1\n" for number in range(50_000)))) == 50_000


def test_a_number_of_more_digits_than_python_reads_is_text() -> None:
    assert read("a: " + "1" * 5000) == {"a": "1" * 5000}


def test_the_shipped_file_means_the_same_to_every_reader() -> None:
    shipped = Path(__file__).parents[2] / load.PARAMS
    assert strict_yaml.read(shipped) == yaml.safe_load(shipped.read_text()) == parse_yaml(shipped.read_text(), "")
