"""The start of a command that runs a server's image on an export."""

from stages.serving.winner import Winner

# Makes an error of what no engine takes, which TensorFlow would otherwise answer slowly and without a word.
STRICT = "TF_TRT_ALLOW_ENGINE_NATIVE_SEGMENT_EXECUTION"


def run(winner: Winner, port: int, models: str) -> str:
    """With the GPU if the winner was measured on one, its models read-only, and its port open to this machine alone."""
    gpu = " --gpus all" if winner.on_gpu else ""
    strict = f" -e {STRICT}=False" if winner.proof and winner.proof.kind == "trt_ops" else ""
    return f'  docker run --rm{gpu} -p 127.0.0.1:{port}:{port}{strict} \\\n    -v "$PWD/{models}:/models:ro"'
