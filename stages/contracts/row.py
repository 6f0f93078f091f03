"""reports/summary.json: every figure of every variant, made from the raw records by `summarize`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from .conversion import Conversion
from .cpu import CpuLoad
from .environment import Environment
from .evaluation import Answered
from .images import ImageSet
from .model import ModelRecord
from .status import Status
from .timing import Parts
from .training import QatRecord
from .variant import BASELINE, Variant

SUMMARY = Path("reports/summary.json")
# The device of the rows among which one is chosen; others have the GPU model of a cluster's node.
HERE = "here"
# Both ends; None where so few calls cannot bound it.
Interval = tuple[float | None, float | None]


@dataclass(frozen=True)
class Share:
    """Correct images of all, with Wilson's 95 % score interval."""

    # Of ties between classes, shares.
    correct: float
    images: int
    ci95: tuple[float, float]

    @property
    def value(self) -> float:
        """From 0 to 1."""
        return self.correct / self.images


@dataclass(frozen=True)
class ClassAverages:
    """Precision, recall and F1 over the classes that have images, and the expected calibration error."""

    macro_precision: float
    macro_recall: float
    macro_f1: float
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float
    ece: float


@dataclass(frozen=True)
class ClassChange:
    """Images of one class that a variant no longer gets right, or now does."""

    label: int
    images: int
    lost: float
    gained: float


@dataclass(frozen=True)
class Change:
    """Top-1 of a variant against another on the same images; drops are shares of all, positive where it is worse.

    `drop_ci95` is Tango's score interval, `drop_bootstrap_ci95` the percentile bootstrap's, which knows no change that
    it has not seen: after no flip in 20 images it says that there is none, and the score interval 0.16 either way.
    """

    images: int
    changed: int
    lost: float
    gained: float
    drop: float
    drop_ci95: tuple[float, float]
    drop_bootstrap_ci95: tuple[float, float]
    mcnemar_p: float
    classes: tuple[ClassChange, ...]
    # Of the changes from the baseline, adjusted for how many there are.
    mcnemar_p_holm: float | None = None

    @property
    def points_won(self) -> float:
        """The other way round than the drop, in percentage points."""
        return 0 - 100 * self.drop  # not the negative, which would make 0 a negative one

    @property
    def points_won_ci95(self) -> tuple[float, float]:
        """Interval of the same."""
        low, high = self.drop_ci95
        return 0 - 100 * high, 0 - 100 * low


@dataclass(frozen=True)
class AtChance:
    """A model that is no better than chance; `chance` is the share that has the most frequent label."""

    correct: int
    images: int
    chance: float


@dataclass(frozen=True)
class Permuted:
    """A model whose outputs are other classes than they were taken for.

    Of `classes` with images to tell, `moved` are answered as another one throughout. Of their `images`, `named` are
    right as the classes are named, and `assigned` by the assignment of outputs to classes that gets most right.
    """

    moved: int
    classes: int
    images: int
    named: int
    assigned: int


@dataclass(frozen=True)
class Resized:
    """Top-1 on a sample where images are resized in this way; `mcnemar_p_holm` is against how it is done here."""

    way: str
    top1: Share
    mcnemar_p_holm: float | None = None


@dataclass(frozen=True)
class Accuracy:
    """`change` is from the baseline, `change_from_int8` from the same INT8 without training for it."""

    top1: Share
    top5: Share
    averages: ClassAverages
    # Share of images with the baseline's answer.
    agreement: float | None = None
    change: Change | None = None
    change_from_int8: Change | None = None
    at_chance: AtChance | None = None
    answered: Answered = field(default_factory=Answered)
    permuted: Permuted | None = None
    # Of the baseline: as it is done here, then in other ways.
    resized: tuple[Resized, ...] = ()

    @property
    def means_nothing(self) -> bool:
        """Whether it is that of a guesser, or of outputs that were taken for other classes."""
        return bool(self.at_chance or self.permuted)


@dataclass(frozen=True)
class Latency:
    """Statistics of one set of timed calls, in milliseconds; throughput in images per second."""

    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    p50_ci95_ms: Interval
    p90_ci95_ms: Interval
    p99_ci95_ms: Interval
    mean_ms: float
    throughput_ips: float
    samples: int
    repeat_p50_ms: tuple[float, ...]
    repeat_cv: float | None


@dataclass(frozen=True)
class Speed:
    """At one batch size; `retimed` counts the blocks that were timed again since others used the CPUs."""

    batch_size: int
    first_inference_ms: float
    latency: Latency
    latency_host: Latency
    parts_ms: Parts | None = None
    cpu: CpuLoad | None = None
    retimed: int = 0


@dataclass(frozen=True)
class GpuConditions:
    """The range of each value over all states of the GPU, and in how many of them something held the clocks down."""

    states: int
    sm_clock_mhz: tuple[int, int] | None
    memory_clock_mhz: tuple[int, int] | None
    temperature_c: tuple[int, int] | None
    power_w: tuple[float, float] | None
    throttled_states: dict[str, int]
    other_processes: int | None


@dataclass(frozen=True)
class Footprint:
    """Most memory that the timed process held, and on a GPU what its allocator and its driver tell."""

    on_gpu: bool
    peak_memory_bytes: int
    gpu_peak_memory_bytes: int | None
    gpu_process_memory_bytes: int | None


@dataclass(frozen=True)
class Doubt:
    """What makes a measurement doubtful: what held the clocks down, in how many blocks; how many processes computed
    on the GPU besides; at a batch size the coefficient of variation of p50 between repeats, or the share of the CPUs
    that others took, or that a quota held back.
    """

    kind: Literal["throttled", "shared GPU", "unsteady", "busy CPU", "CPU quota"]
    value: float
    cause: str | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Row:
    """One variant on one device; what was not measured is None."""

    variant: Variant
    status: Status
    # A key of Summary.environments.
    device: str = HERE
    conversion: Conversion | None = None
    accuracy: Accuracy | None = None
    # By batch size, smallest first.
    speeds: tuple[Speed, ...] = ()
    load_ms: float | None = None
    footprint: Footprint | None = None
    gpu: GpuConditions | None = None
    doubts: tuple[Doubt, ...] = ()

    @property
    def name(self) -> str:
        """Of the variant."""
        return self.variant.name

    @property
    def size_bytes(self) -> int | None:
        """All files of the variant."""
        return self.conversion.size_bytes if self.conversion else None

    def speed(self, batch_size: int) -> Speed | None:
        """What was measured at that batch size."""
        return next((speed for speed in self.speeds if speed.batch_size == batch_size), None)


@dataclass(frozen=True)
class Summary:
    """All rows, with what they were measured on; `environments` by device, HERE first."""

    SCHEMA: ClassVar[int] = 1

    model: ModelRecord
    environments: dict[str, Environment]
    evaluation: ImageSet
    calibration: ImageSet
    qat: QatRecord | None
    rows: tuple[Row, ...]
    # In words, whose order the classes have.
    class_order: str = ""

    def on(self, device: str) -> tuple[Row, ...]:
        """The rows of one device, which alone compare."""
        return tuple(row for row in self.rows if row.device == device)

    @property
    def here(self) -> tuple[Row, ...]:
        """The rows among which one is chosen."""
        return self.on(HERE)

    @property
    def others(self) -> tuple[str, ...]:
        """All devices but this one."""
        return tuple(device for device in self.environments if device != HERE)

    def baseline(self, device: str = HERE) -> Row | None:
        """What the others on that device are compared with."""
        return next((row for row in self.on(device) if row.variant == BASELINE), None)
