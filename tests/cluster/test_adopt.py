from pathlib import Path

from stages.cluster import adopt
from stages.contracts import conversion


def test_variants_that_are_no_longer_listed_lose_their_folders_and_nothing_else(checkout: Path) -> None:
    kept = [conversion.folder("tflite-fp32"), Path("models/saved_model"), Path("reports/variants/tflite-fp32")]
    gone = [conversion.folder("tflite-int8"), Path("reports/variants/tflite-int8")]
    for place in (*kept, *gone):
        place.mkdir(parents=True)
        (place / "file").touch()
    adopt.forget(("tflite-fp32",), ("tflite-fp32", "tflite-int8", "savedmodel-fp32"))
    assert all((place / "file").exists() for place in kept)
    assert not any(place.exists() for place in gone)
