"""Files on the package index, each pinned by its hash."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pin:
    """A pinned wheel; `platform` for one that is built per platform, so that every machine fetches the same file."""

    name: str
    version: str
    sha256: str
    platform: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Pin":
        """Read NAME==VERSION#sha256=DIGEST."""
        requirement, _, digest = text.partition("#sha256=")
        name, _, version = requirement.partition("==")
        return cls(name, version, digest)

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"
