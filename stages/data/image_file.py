"""An image file with its class: what every kind of source comes down to."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from stages.core.cores import cores
from stages.core.errors import PipelineError

Found = TypeVar("Found")


class Photo(NamedTuple):
    """An image file, its name inside its source, and its class (None: unlabelled)."""

    path: Path
    name: str
    label: int | None = None


def examine(photos: Sequence[Photo], look: Callable[[Photo], Found], doing: str) -> list[Found]:
    """What `look` finds in each photograph; one PipelineError lists all that cannot be read."""

    def found(photo: Photo) -> Found | PipelineError:
        try:
            return look(photo)
        except PipelineError as error:
            return error

    with ThreadPoolExecutor(cores()) as pool:
        results = list(tqdm(pool.map(found, photos), doing, len(photos), unit="image", disable=None))
    problems = [str(result) for result in results if isinstance(result, PipelineError)]
    if problems:
        raise PipelineError(f"bad images ({len(problems)} of {len(photos)}):\n  " + "\n  ".join(problems))
    return [result for result in results if not isinstance(result, PipelineError)]
