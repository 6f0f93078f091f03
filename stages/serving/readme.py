"""The words of an export: what a person who has nothing else must know."""

import textwrap
from pathlib import Path

from stages.runtimes.contract import Tensor
from stages.serving import tf_serving, triton
from stages.serving.docker import STRICT
from stages.serving.served import Served
from stages.serving.winner import Winner

WIDTH = 120
# How an image gets its size, by the name that preprocessing.json has for it.
FITTED = {
    "crop": "the centre in the proportions of `height` x `width`, `crop_fraction` of the largest that fits, is resized",
    "stretch": "the whole image is resized",
    "pad": "the whole image is resized in its own proportions, in the middle of black,",
    "resize-crop": "the whole image is resized so that its shorter side has {side} pixels, and its centre cut out",
}


def messages(winner: Winner, target: Path, champion: str | None) -> list[str]:
    """What the command prints: where it is, and what it is not for."""
    place = f"{winner.name} of {winner.model.name} is in {target}; its README.txt says how to serve it."
    other = f"MLflow's champion is still {champion}, which cannot be told from {winner.name}."
    return [place] + [other] * (champion not in (None, winner.name)) + _limits(winner)


def _limits(winner: Winner) -> list[str]:
    triton_too = [] if triton.takes(winner) else [triton.ONLY_TENSORFLOW_SERVING]
    return triton_too + ([] if tf_serving.takes(winner) else [tf_serving.ONLY_TRITON])


def text(served: Served) -> str:
    """All of README.txt."""
    winner = served.winner
    parts = [
        f"{served.name}, {winner.name}\n\n{winner.chosen.sentence}\n{measured(winner)}",
        _input(served),
        _engines(served),
        f"TensorFlow Serving, on port {tf_serving.PORT}\n\n{tf_serving.command(served)}"
        if tf_serving.takes(winner)
        else tf_serving.ONLY_TRITON,
        f"Triton, on port {triton.PORT}\n\n{triton.command(served)}"
        if triton.takes(winner)
        else triton.ONLY_TENSORFLOW_SERVING,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def measured(winner: Winner) -> str:
    """The figures behind the choice, and the machine they hold for."""
    machine, row = winner.environment.machine, winner.row
    p50s = ", ".join(f"{speed.latency.p50_ms:.3g} ms at batch {speed.batch_size}" for speed in row.speeds)
    device = winner.gpu.name if winner.on_gpu else f"{machine.cpu}, {machine.threads} threads"
    return f"Measured: top-1 {winner.top1:.1%}, p50 {p50s} ({device}); {(row.size_bytes or 0) / 1e6:.1f} MB."


def _input(served: Served) -> str:
    source, result = served.interface.input, served.interface.output
    prepared = served.winner.model.preprocessing
    fitted = FITTED[prepared.resize].format(side=prepared.shorter_side)
    turned = "turned as" if prepared.orientation else "as it is stored, whatever"
    quantized = "" if source.scale is None else f"\n{_quantization(source, result)}"
    return f"""\
What goes in

Images of shape {list(source.shape or ())} in float32, prepared as preprocessing.json says:
an image is taken {turned} its EXIF tag says;
{fitted}
to `height` x `width` ({prepared.arithmetic});
then `channels` in that order (gray: the luma of ITU-R 601, before the resize), and x * `scale` + `offset` for each
channel. The servers do none of this, and answer uint8 pixels with nonsense.{quantized}
Out comes a probability for each line of labels.txt."""


def _quantization(source: Tensor, result: Tensor) -> str:
    return f"""\
Both tensors are {source.type}: send round(x / scale) + zero point, clipped to -128 to 127, where the scale is
{source.scale:.9g} and the zero point {source.zero_point}; a probability is (answer - zero point) * scale, where
the scale is {result.scale:.9g} and the zero point {result.zero_point}."""


def _engines(served: Served) -> str:
    """What engines are tied to; empty for a model without."""
    if served.winner.tensorrt is None:
        return ""
    sentences = _of_plans(served) if served.interface.engines else _inside_tensorflow(served)
    return f"TensorRT's engines\n\n{textwrap.fill(sentences, WIDTH, break_on_hyphens=False)}"


def _inside_tensorflow(served: Served) -> str:
    winner = served.winner
    return (
        f"They load in {winner.tensorrt} alone, on a GPU of compute capability {winner.gpu.compute_capability}, and "
        f"were built for batches of {_listed(served)}: fill a batch up to the next of them. The variable {STRICT} "
        "below makes an error of what no engine takes, such as a larger batch: TensorFlow would otherwise answer it "
        "slowly and without a word. The images below were not tried with these engines: NVIDIA's support matrix says "
        f"which release of Triton has {winner.tensorrt}."
    )


def _of_plans(served: Served) -> str:
    winner, fixed = served.winner, any(engine.fixed for engine in served.interface.engines)
    models = f"models {served.name}-batchN, which take no other" if fixed else "one model, up to the last"
    return (
        f"They load in {winner.tensorrt} alone, on a {winner.gpu.name} (compute capability "
        f"{winner.gpu.compute_capability}), and take batches of {_listed(served)}: {models}. The image below was not "
        f"tried with these engines: NVIDIA's support matrix says which release YY.MM of Triton has {winner.tensorrt}."
    )


def _listed(served: Served) -> str:
    return ", ".join(map(str, served.batch_sizes))
