"""The reference pages have what the pipeline has: stages with their files, commands, and facts of proofs."""

import argparse
import json
import re
import typing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import __main__
from stages.contracts.conversion import Proof

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# What DVC puts for it, in the words of the page.
VARIANT = "${item.variant}", "VARIANT"
# In the name of a fact: what stands for an operation, a type, a batch size.
PART = re.compile(r"(?<![a-z])[A-Z]+\b|N\b")


@cache
def sections(page: str) -> dict[str, str]:
    """Text below each heading of the second level, by the heading."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def listed(stage: str, what: str) -> set[str]:
    """The names in code spans of one line of a stage's section."""
    section = sections("stages.md")[f"{stage}@VARIANT" if "matrix" in STAGES[stage] else stage]
    line = re.search(rf"^- {what}: (.*(?:\n  .*)*)", section, re.MULTILINE)
    return set(re.findall(r"`([^`]+)`", line[1])) if line else set()


def plain(entry: Any) -> str:
    """The path of an output, or the name of a parameter, with or without settings of its own."""
    name: str = entry if isinstance(entry, str) else next(iter(entry))
    return name.replace(*VARIANT)


def test_the_stages_stand_in_their_order() -> None:
    names = [f"{name}@VARIANT" if "matrix" in stage else name for name, stage in STAGES.items()]
    assert list(sections("stages.md"))[: len(names)] == names


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_writes_what_its_section_says(stage: str) -> None:
    assert listed(stage, "writes") == {plain(out) for out in STAGES[stage]["outs"]}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_what_its_section_says(stage: str) -> None:
    files = {plain(path) for path in STAGES[stage]["deps"] if not path.startswith("stages/")}
    for param in STAGES[stage].get("params", []):
        if isinstance(param, dict):
            ((path, keys),) = param.items()
            files |= {path, *(plain(key) for key in keys or [])} - {"params.yaml"}
    assert listed(stage, "reads") - {"params.yaml"} == files


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_the_settings_that_its_section_says(stage: str) -> None:
    params = [param for param in STAGES[stage].get("params", []) if not plain(param).endswith(".json")]
    assert listed(stage, "settings") == {plain(param) for param in params}


def test_every_make_target_and_every_verb_is_in_the_reference_of_commands() -> None:
    text = (REFERENCE / "command-line.md").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z][a-z-]*):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert [target for target in targets if f"`make {target}" not in text] == []
    actions = __main__.parser()._actions
    (verbs,) = (action.choices for action in actions if isinstance(action, argparse._SubParsersAction))
    assert [verb for verb in verbs if f"`trt-pipeline {verb}" not in text] == []


# By kind the modules whose facts they are; what stands between the parts of a name, code puts together.
WRITERS = {
    "saved_model": ("savedmodel/convert.py", "shared/saved_model.py"),
    "trt_ops": (
        "tftrt/convert.py",
        "tftrt/prepared.py",
        "tftrt/proof.py",
        "shared/saved_model.py",
        "shared/fp16.py",
        "comparison.py",
    ),
    "tensor_types": ("tflite/convert.py", "shared/fp16.py", "comparison.py"),
    "graph_layers": ("onnxruntime/convert.py", "onnxruntime/options.py", "comparison.py"),
    "engine_layers": (
        "tensorrt/convert.py",
        "tensorrt/proof.py",
        "tensorrt/forms.py",
        "tensorrt/timing_cache.py",
        "shared/fp16.py",
        "comparison.py",
    ),
}


def facts(kind: str) -> list[str]:
    """The facts in the table of a kind of proof."""
    return re.findall(r"^\| `([^`]+)` \|", sections("proofs.md")[f"`{kind}`"], re.MULTILINE)


def test_every_kind_of_proof_has_its_table() -> None:
    kinds = typing.get_args(typing.get_type_hints(Proof)["kind"])
    assert set(WRITERS) == set(kinds)
    assert all(facts(kind) for kind in kinds)


@pytest.mark.parametrize("kind", WRITERS)
def test_the_code_of_a_runtime_has_the_facts_of_the_reference(kind: str) -> None:
    code = "".join((ROOT / "stages/runtimes" / name).read_text(encoding="utf-8") for name in WRITERS[kind])
    words = {word for fact in facts(kind) for word in re.findall(r"[a-z]\w+", PART.sub("", fact))}
    assert [word for word in sorted(words) if word not in code] == []


@pytest.mark.parametrize("name", ["savedmodel-fp32", "onnxruntime-fp32", "onnxruntime-int8"])
def test_every_fact_of_a_proof_is_in_the_reference(name: str) -> None:
    """Of conversions that were committed."""
    path = ROOT / f"tests/golden/records/reports/variants/{name}/convert.json"
    proof = json.loads(path.read_text(encoding="utf-8"))["proof"]
    patterns = [PART.sub(r"[\\w-]+", re.escape(fact)) for fact in facts(proof["kind"])]
    assert [fact for fact in proof["facts"] if not any(re.fullmatch(one, fact) for one in patterns)] == []
