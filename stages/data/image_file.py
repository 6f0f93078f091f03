"""An image file with its class: what every kind of source comes down to."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from stages.core.cores import cores
from stages.core.errors import PipelineError

Result = TypeVar("Result")


class ImageFile(NamedTuple):
    """An image file, its name inside its source, and its class (None: unlabelled)."""

    path: Path
    name: str
    label: int | None = None


class Problem(NamedTuple):
    """What is wrong with one file, and the kind of it, which many files may share."""

    told: str
    kind: str


def examine(images: Sequence[ImageFile], look: Callable[[ImageFile], Result], doing: str) -> list[Result]:
    """What `look` makes of each image; one PipelineError lists all that cannot be read."""

    def result_or_error(image: ImageFile) -> Result | PipelineError:
        try:
            return look(image)
        except PipelineError as error:
            return error

    with ThreadPoolExecutor(cores()) as pool:
        results = list(tqdm(pool.map(result_or_error, images), doing, len(images), unit="image", disable=None))
    errors = [result for result in results if isinstance(result, PipelineError)]
    if errors:
        raise PipelineError(
            f"bad images ({len(errors)} of {len(images)}):\n  " + "\n  ".join(map(str, errors)),
            code="images-bad",
            files=[error.values.get("file") for error in errors],
            images=len(images),
        )
    return [result for result in results if not isinstance(result, PipelineError)]
