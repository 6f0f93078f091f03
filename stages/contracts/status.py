"""How a step of a variant ended."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Status:
    """`skipped`: this machine or model cannot have it; `failed`: it should have worked. Both have a reason."""

    state: Literal["ok", "skipped", "failed"]
    reason: str | None = None
    # Of a row: the stage that failed.
    stage: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.state == "ok"

    @property
    def explanation(self) -> str | None:
        """The reason, after the stage that failed."""
        return f"{self.stage}: {self.reason}" if self.stage else self.reason


OK = Status("ok")
