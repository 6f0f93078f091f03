"""Where everything lies, relative to the checkout: the stages meet here and nowhere else."""

from pathlib import Path

from ..core.errors import PipelineError

PARAMS = Path("params.yaml")

ENVIRONMENT = Path("reports/environment.json")
# Which GPU models a cluster has, and the machines of all but the home model.
GPU_MODELS = Path("reports/gpu_models.json")
SOURCES = Path("reports/sources.json")
DOWNLOAD = Path("reports/download.json")
IMAGES = Path("reports/images.json")
TRAIN = Path("reports/train.json")
CURVES = Path("reports/training.csv")
QAT_RECORD = Path("reports/qat.json")
QAT_CURVE = Path("reports/qat.csv")
MODEL = Path("reports/model.json")
ONNX_RECORD = Path("reports/onnx.json")
SWEEP_RECORD = Path("reports/sweep.json")
# By GPU model the records of all but the home model, each below a folder that stands for the checkout.
OTHER_GPUS = Path("reports/other_gpus")
BENCHMARK = Path("reports/benchmark.json")
SAMPLES = Path("reports/samples.csv")
SUMMARY = Path("reports/summary.json")
SUMMARY_TABLE = Path("reports/summary.md")
METRICS = Path("reports/metrics.json")
PLOTS = Path("reports/plots")
CLASSES = Path("reports/classes")
SELECTION = Path("reports/selection.json")
PAGE = Path("reports/report.html")
TRACK = Path("reports/track.json")
REGISTER = Path("reports/register.json")

WEIGHTS = Path("data/model")
LABELS = WEIGHTS / "labels.csv"
EVALUATION = Path("data/evaluation")
CALIBRATION = Path("data/calibration")
TRAINING = Path("data/train")
SAVED_MODEL = Path("models/saved_model")
TRAINED = Path("models/trained/model.keras")
# Stem of the user's own model in data/model.
OWN = "own"
ONNX = Path("models/onnx/model.onnx")
# What quantisation-aware training makes of these two, with its fake quantisation in them.
QAT = Path("models/qat")
QAT_SAVED_MODEL, QAT_ONNX = QAT / "saved_model", QAT / "model.onnx"
# What a cluster converted, evaluated and timed.
SWEEP = Path("models/sweep")
# Folders that belong to the pipeline: DVC and `make clean` remove what is in them.
WRITTEN = (WEIGHTS, EVALUATION, CALIBRATION, TRAINING, Path("models"), Path("reports"))
# In every variant's folder: what it is, and whether there is a model beside it.
MANIFEST = "variant.json"


def model(variant: str) -> Path:
    """Folder of a converted variant."""
    return Path("models") / variant


def record(variant: str, name: str) -> Path:
    """A variant's own result, such as `convert.json`."""
    return Path("reports/variants") / variant / name


def resolve(source: str, checkout: Path) -> Path:
    """A path that the user wrote in params.yaml: `~` is expanded, a relative one starts at the main checkout.

    Queued experiments run in a copy elsewhere, so the current folder would be the wrong start.
    """
    try:
        return checkout / Path(source).expanduser()
    except RuntimeError:
        raise PipelineError(f"{source} names the home of an unknown user: write the whole path") from None
