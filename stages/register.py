"""Register the chosen variant in MLflow as a model that takes photographs, with the alias `champion`."""

import argparse
import json
import re
import shutil
import tempfile
from contextlib import suppress
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import numpy as np

from stages.contracts import paths
from stages.core import errors, files
from stages.core.errors import PipelineError
from stages.params import document
from stages.runtimes import Manifest
from stages.runtimes.shared.gpu_requirements import TENSORRT_WHEELS
from stages.tracking.registry import CHAMPION, PREVIOUS, Registry
from stages.tracking.store import cause, connect, digest, holds, one_at_a_time, recorded, tracking_uri

Record = dict[str, Any]

PACKAGE = Path(__file__).parent
# The module that travels with the model, and what it must find installed.
SERVED = "stages.serving.pyfunc"
REQUIRED = ("mlflow", "numpy", "pandas", "pillow")
# What a runtime must find besides, in each way it may have come: the first whose head is installed.
RUNTIME_REQUIRED: dict[str, tuple[tuple[str, ...], ...]] = {
    "savedmodel": (("tensorflow",),),
    "tflite": (("ai-edge-litert",),),
    "onnxruntime": (("onnxruntime-gpu[cuda,cudnn]", "nvidia-ml-py"), ("onnxruntime",)),
    "tftrt": (("tensorflow[and-cuda]",),),
    "tensorrt": tuple(
        (name, *([name.replace("bindings", "libs")] if "bindings" in name else []), "cuda-bindings")
        for name in TENSORRT_WHEELS
    ),
}


def registered_name(model: str) -> str:
    """MLflow refuses / and : in names, and a dot reads as a file's suffix."""
    return re.sub(r"[^\w-]", "_", model)


def identity(manifest: Manifest) -> dict[str, str]:
    """What makes two versions the same: their files, and all that stands between a photograph and its class."""
    return {
        "variant": manifest.variant,
        "model_sha256": files.read_json(paths.record(manifest.variant, "convert.json"))["model_sha256"],
        "preprocessing": digest(files.read_json(paths.MODEL)["preprocessing"]),
        "options": json.dumps(manifest.options, sort_keys=True),
        "labels": files.sha256(paths.LABELS),
    }


def story(manifest: Manifest, chosen: Record, run: str) -> tuple[dict[str, str], str]:
    """Tags and description of a version: where it comes from, what it was measured to be, and why it was chosen."""
    row = next(row for row in files.read_json(paths.SUMMARY)["rows"] if row["variant"] == manifest.variant)
    machine = files.read_json(paths.ENVIRONMENT)
    p50_ms = row["latency"][str(chosen["batch_size"])]["p50_ms"]
    tags = {"run": run, "environment": digest(machine), "top1": str(row["top1"]), "p50_ms": str(p50_ms)}
    tags |= {"p50_batch_size": str(chosen["batch_size"]), "reason": chosen["sentence"]}
    if manifest.runtime in ("tftrt", "tensorrt"):
        gpu, native = machine["gpus"][0], manifest.runtime == "tensorrt"
        tensorrt = row["details"]["tensorrt"] if native else f"TensorRT {machine['tensorrt']['loaded']}"
        tags["requires"] = (
            f"an NVIDIA GPU of compute capability {gpu['compute_capability']} (its engines were built on a "
            f"{gpu['name']}) and {tensorrt}"
        )
    measured = f"top-1 {row['top1']:.1%}, p50 {p50_ms:.3g} ms at batch {chosen['batch_size']}"
    needs = f" Requires {tags['requires']}." if "requires" in tags else ""
    return tags, f"{manifest.variant} of pipeline run {run}: {measured}. {chosen['sentence']}{needs}"


def requirements(runtime: str) -> list[str]:
    """What the model needs, each at the version that it was measured with."""
    ways = RUNTIME_REQUIRED[runtime]
    names = (*REQUIRED, *next((way for way in ways if _is_installed(_wheel(way[0]))), ways[0]))
    return [f"{name}=={installed(_wheel(name))}" for name in names]


def _wheel(name: str) -> str:
    """Without its extras."""
    return name.partition("[")[0]


def _is_installed(wheel: str) -> bool:
    with suppress(PackageNotFoundError):
        return bool(installed(wheel))
    return False


def copy_code(runtime: str, target: Path) -> str:
    """Copy the modules that serve this runtime into a package of their own, and return its name.

    The name is one that no other version's code has: two versions may be loaded by one process, as may another package
    called `stages`.
    """
    finder = ModuleFinder([str(PACKAGE.parent)])
    for name in (SERVED, f"stages.runtimes.{runtime}"):
        finder.import_hook(name)
    found = sorted(Path(place) for module in finder.modules.values() if (place := vars(module)["__file__"]))
    sources = {str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8") for path in found}
    package = f"stages_{digest(sources)}"
    for relative, text in sources.items():
        renamed = re.sub(r"\bstages(?=\.\w| import)", package, text)
        files.write_text(target / package / relative, renamed)
    return package


def copy_data(manifest: Manifest, batch_size: int, target: Path) -> None:
    """What `served.ServedModel` reads."""
    shutil.copytree(paths.model(manifest.variant), target / "model")
    shutil.copy(paths.LABELS, target)
    setting = {"preprocessing": files.read_json(paths.MODEL)["preprocessing"], "batch_size": batch_size}
    files.write_json(target / "served.json", setting)


def signature() -> Any:
    """Images in, one row for each out.

    The input is of objects, since MLflow would take nothing but pixels for a tensor of uint8: a request over HTTP holds
    JPEGs. What an image may be, the model checks itself.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import Array

    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.long, "label"),
        ColSpec(DataType.string, "name"),
        ColSpec(DataType.string, "wnid"),
        ColSpec(DataType.double, "score"),
        ColSpec(Array(DataType.long), "top5_labels"),
        ColSpec(Array(DataType.string), "top5_names"),
        ColSpec(Array(DataType.double), "top5_scores"),
    ]
    return ModelSignature(Schema([TensorSpec(np.dtype(object), (-1,), "image")]), Schema(columns))


def save(manifest: Manifest, batch_size: int, model: Any, folder: Path) -> Path:
    """Write the model as MLflow wants it below `folder`; returns where."""
    from mlflow import pyfunc
    from mlflow.models import Model

    copy_data(manifest, batch_size, folder / "served")
    package = copy_code(manifest.runtime, folder)
    pyfunc.save_model(
        folder / "model",
        loader_module=f"{package}{SERVED.removeprefix('stages')}",
        data_path=str(folder / "served"),
        code_paths=[str(folder / package)],
        mlflow_model=Model(
            model.artifact_location, model.source_run_id, model_uuid=model.model_id, model_id=model.model_id
        ),
        signature=signature(),
        input_example=np.zeros((1, 8, 8, 3), np.uint8),
        pip_requirements=requirements(manifest.runtime),
    )
    return folder / "model"


def log(client: Any, manifest: Manifest, batch_size: int, tags: dict[str, str], run: str) -> Any:
    """The logged model with the variant's files: one that an interrupted run had completed, or a new one."""
    from mlflow.entities import LoggedModelOutput

    experiment = client.get_run(run).info.experiment_id
    query = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    for found in client.search_logged_models([experiment], query):
        if found.status == "READY":
            return found
        client.delete_logged_model(found.model_id)
    model = client.create_logged_model(experiment, manifest.variant, run, tags)
    with tempfile.TemporaryDirectory() as folder:
        client.log_model_artifacts(model.model_id, str(save(manifest, batch_size, model, Path(folder))))
    client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
    return client.finalize_logged_model(model.model_id, "READY")


def register(client: Any, name: str, manifest: Manifest, batch_size: int, chosen: Record, run: str) -> dict[str, str]:
    """Make the variant the champion unless it or a rival of it is already; returns version and variant of who is."""
    registry, tags = Registry(client, name), identity(manifest)
    champion = registry.champion()
    # The champion does not change for a difference that the measurements cannot tell.
    for rival in chosen["rivals"] if champion else ():
        if registry.find(identity(Manifest.read(rival))) == champion:
            print(
                f"{name}: version {champion}, {rival}, cannot be told from {manifest.variant} and stays the {CHAMPION}"
            )
            return {"version": str(champion), "variant": rival}
    version = registry.find(tags)
    if version is None:
        version = registry.add(log(client, manifest, batch_size, tags, run), run, tags)
    if version != champion:
        registry.describe(version, *story(manifest, chosen, run))
        registry.promote(version)
        told = f", and version {champion} the {PREVIOUS}" if champion else ""
        print(f"{name}: version {version}, {manifest.variant}, is now the {CHAMPION}{told}")
    return {"version": version, "variant": manifest.variant}


def has_champion(uri: str, name: str) -> bool:
    """Whether any version is the champion; which one, a person may have decided since."""
    query = f"SELECT 1 FROM registered_model_aliases WHERE name = ? AND alias = '{CHAMPION}'"
    return holds(uri, query, [name], lambda client: Registry(client, name).champion() is not None)


def tracked_run(uri: str) -> str:
    """The pipeline run that `track` logged these results to."""
    receipt = files.read_json(paths.TRACK)
    if receipt["uri"] != uri:
        raise PipelineError(f"{paths.TRACK} is of another store than {uri}: run `make repro`, which logs to this one")
    return str(receipt["run"])


def main() -> None:
    """Read params and the choice, register the winner if there is one, and write the receipt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=Path(), help="the main checkout, where the default store lies")
    parser.add_argument("--experiment", default="", help="name of the DVC experiment, if any")
    arguments = parser.parse_args()
    setting, chosen = document.load(), files.read_json(paths.SELECTION)
    uri, name = tracking_uri(setting, arguments.checkout), registered_name(setting.model.name)
    # A sweep tries what nobody has decided to ship.
    stays = f"the experiment {arguments.experiment}" if arguments.experiment else chosen["outcome"]
    if arguments.experiment or chosen["outcome"] != "selected":
        print(f"{stays}: the model registry stays as it is")
        files.write_json(paths.REGISTER, {"outcome": chosen["outcome"], "uri": uri})
        return
    manifest = Manifest.read(chosen["winner"])
    key = digest([name, identity(manifest), chosen["rivals"]])
    if recorded(paths.REGISTER, key, uri) and has_champion(uri, name):
        return
    paths.REGISTER.unlink(missing_ok=True)
    run = tracked_run(uri)
    try:
        with one_at_a_time(arguments.checkout):
            champion = register(connect(uri), name, manifest, setting.evaluation.batch_size, chosen, run)
    except PipelineError:
        raise
    except Exception as error:
        raise PipelineError(
            f"could not register {manifest.variant} in MLflow at {uri} ({cause(error)}): the {CHAMPION} is what it "
            "was, `make repro` registers it once the store answers"
        ) from None
    files.write_json(paths.REGISTER, {"key": key, "uri": uri, "outcome": "selected", "name": name} | champion)


if __name__ == "__main__":
    errors.run(main)
