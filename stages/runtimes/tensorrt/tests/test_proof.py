import json
from typing import Any

import pytest

from stages.core.errors import PipelineError
from stages.runtimes.tensorrt import proof
from stages.runtimes.tensorrt.api import Sizes
from stages.runtimes.tensorrt.proof import Engine, Layers


def engine(layers: Layers) -> Engine:
    return Engine("batch1.plan", 5, 1.5, Sizes(1, 1, 1), ("images", "probabilities"), layers)


def test_weights_in_fp32_are_listed() -> None:
    layers: list[Any] = [
        {
            "Name": "conv1",
            "Weights": {"Type": "Half", "Count": 9},
            "Inputs": [{"Format/Datatype": "Channel major FP16"}],
        },
        {"Name": "conv2", "Weights": {"Type": "Float", "Count": 9}, "Inputs": [{"Format/Datatype": "linear FP32"}]},
        {"Name": "conv3", "Weights": {"Type": "Int8", "Count": 9}, "Inputs": [{"Format/Datatype": "wide Int8 format"}]},
        {"Name": "pool", "Inputs": [{"Format/Datatype": "Half"}], "Weights": {"Type": "Float", "Count": 0}},
        {"Name": "topk", "Inputs": [{"Format/Datatype": "BFloat16"}], "Weights": None},
        {"Name": "reformat", "LayerType": "Reformat", "Inputs": [{"Format/Datatype": "linear FP32"}]},
    ]
    found = proof.layers(json.dumps({"Layers": layers}))
    assert found == Layers({"fp16": 2, "fp32": 1, "int8": 1, "other": 1}, {"fp16": 1, "fp32": 1, "int8": 1}, ("conv2",))
    note = ["keeps FP32 weights in the engine for batch 1: conv2"]
    assert proof.notes("int8", {"1": engine(found)}) == note
    assert proof.notes("fp32", {"1": engine(found)}) == []
    assert proof.notes("fp16", {"1": engine(Layers({"fp16": 1}, {"fp16": 1}, ())), "8": engine(found)}) == [
        "keeps FP32 weights in the engine for batch 8: conv2"
    ]


@pytest.mark.parametrize(
    "strange", ["", "{}", '{"Layers": [{"Weights": {"Count": 3}}]}', '{"Layers": [{"Inputs": [{}]}]}', "[1]"]
)
def test_another_form_of_the_inspectors_answer_proves_nothing(strange: str) -> None:
    with pytest.raises(PipelineError) as caught:
        proof.layers(strange)
    assert caught.value.code == "tensorrt-inspector-unknown"


def test_names_of_layers_alone_prove_nothing() -> None:
    with pytest.raises(PipelineError) as caught:
        proof.layers(json.dumps({"Layers": ["conv1", "conv2"]}))
    assert caught.value.code == "tensorrt-inspector-empty"


def test_a_newer_tensorrt_fuses_layers_whose_weights_it_no_longer_names() -> None:
    fused = Layers({"int8": 3, "fp16": 1}, {}, ())
    built = {"1": engine(fused)}
    proof.check("int8", built)
    assert proof.facts(built)["engine_bytes"] == 5
    assert proof.totals(built) == {"int8": 3, "fp16": 1, "fp32": 0}
    with_weights = {"1": engine(fused._replace(weights={"fp16": 1}))}
    proof.check("int8", with_weights)
    assert proof.totals(with_weights)["fp16"] == 1
    with pytest.raises(PipelineError) as caught:
        proof.check("fp32", built)
    assert caught.value.code == "tensorrt-no-layer"
    assert caught.value.values == {"batch": "1", "precision": "fp32", "layers": {"int8": 3, "fp16": 1}}
