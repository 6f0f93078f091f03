"""Export the SavedModel to ONNX, which the runtimes outside TensorFlow start from, and compare the two."""

from dataclasses import replace

from stages.contracts import codec
from stages.contracts.environment import FINGERPRINTS, Fingerprints
from stages.contracts.model import MODEL, ONNX, ONNX_RECORD, ModelRecord, OnnxRecord
from stages.core import errors, files
from stages.model import exported
from stages.runtimes import registry


def main() -> None:
    """Read the model's record, export, compare, and write models/onnx and its record, which may say why it is empty."""
    model, asked = codec.read(ModelRecord, MODEL), codec.read(Fingerprints, FINGERPRINTS).onnx
    with files.new_directory(ONNX.parent):
        _write(exported.ENDED)  # what stays if this process is ended
    with files.new_directory(ONNX.parent) as folder:
        record, failures = exported.outcome(model, folder) if asked else (exported.SKIPPED, [])
    _write(record)
    errors.fail(failures)


def _write(record: OnnxRecord) -> None:
    """With what each variant's conversion takes of it: one that starts from the SavedModel is to stay as it is."""
    found = files.sha256(ONNX) if ONNX.exists() else record.status.reason
    sources = {name: found if registry.takes_onnx(name) else None for name in registry.valid()}
    codec.write(replace(record, sources=sources), ONNX_RECORD)


if __name__ == "__main__":
    errors.run(main)
