"""The candidate as a model that MLflow loads: images in, a table of their classes out."""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from stages.serving import package
from stages.serving.setting import Setting
from stages.tracking.candidate import Candidate

# How MLflow's files of a model name the Python: in a flavor, for virtualenv and uv, and for conda.
PYTHON = re.compile(r"^(\s*(?:python_version: |python: |- python=))[\d.]+$", re.MULTILINE)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature


def log(client: "MlflowClient", experiment: str, candidate: Candidate) -> "LoggedModel":
    """The logged model with the variant's files: one that an interrupted run had completed, or a new one."""
    from mlflow.entities import LoggedModelOutput

    tags = candidate.identity
    query = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    for earlier in client.search_logged_models([experiment], query):
        if earlier.status == "READY":
            return earlier
        client.delete_logged_model(earlier.model_id)
    model = client.create_logged_model(experiment, candidate.name, candidate.run, tags)
    with tempfile.TemporaryDirectory() as folder:
        client.log_model_artifacts(model.model_id, str(save(candidate, model, Path(folder))))
    client.log_outputs(candidate.run, [LoggedModelOutput(model.model_id, step=0)])
    return client.finalize_logged_model(model.model_id, "READY")


def save(candidate: Candidate, model: "LoggedModel", folder: Path) -> Path:
    """Write the model as MLflow wants it below `folder`; returns where."""
    import numpy as np
    from mlflow import pyfunc
    from mlflow.models import Model

    winner = candidate.winner
    package.write_data(winner.name, Setting(winner.model.preprocessing, candidate.batch_size), folder / "served")
    code = package.write_code(winner.runtime, folder)
    pyfunc.save_model(
        folder / "model",
        loader_module=package.loader(code),
        data_path=str(folder / "served"),
        code_paths=[str(folder / code)],
        mlflow_model=Model(
            model.artifact_location, model.source_run_id, model_uuid=model.model_id, model_id=model.model_id
        ),
        signature=signature(),
        input_example=np.zeros((1, 8, 8, 3), np.uint8),
        pip_requirements=package.requirements(winner.measured),
    )
    _of_python(folder / "model", package.python(winner.measured))
    package.write_lock(winner.measured, folder / "model")
    return folder / "model"


def _of_python(model: Path, version: str) -> None:
    """MLflow writes down the Python that saves a model, which need not be the one that it was measured with."""
    for name in ("MLmodel", "python_env.yaml", "conda.yaml"):
        text = (model / name).read_text(encoding="utf-8")
        (model / name).write_text(PYTHON.sub(rf"\g<1>{version}", text), encoding="utf-8")


def signature() -> "ModelSignature":
    """Images in, one row for each out.

    The input is of objects, since MLflow would take nothing but pixels for a tensor of uint8: a request over HTTP holds
    JPEGs. What an image may be, the model checks itself.
    """
    import numpy as np
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
