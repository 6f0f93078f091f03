"""The model's classes: index, WordNet id and name, as `download` writes them."""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from ..core import files
from ..core.errors import PipelineError

LABELS = Path("data/model/labels.csv")
# As many names as a sentence can list.
LISTED = 10
# Among more names it takes too long to look for the nearest.
NEAREST = 2000
# A longer number counts no class, and Python refuses to read very long ones.
DIGITS = 18
# Drawn as blanks, beside those that str.split knows: fillers of Hangul, and Braille without a dot.
BLANK = "\u3164\uffa0\u2800"
# Not drawn: Unicode's property Default_Ignorable_Code_Point (DerivedCoreProperties.txt of 15.0), which Python lacks.
IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# And control characters that are no blanks, and those around notes between lines.
UNSEEN = re.compile(rf"[{IGNORABLE}\ufff9-\ufffb\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")


def plain(name: str) -> str:
    """A name as names are compared: in one of the forms that Unicode has for the same letters, without blanks around.

    macOS and archives from it take letters and their accents apart, and the two look alike.
    """
    return unicodedata.normalize("NFC", name).strip()


def looks(name: str) -> str:
    """The same for names that a reader takes for one: without case, width, signs that nobody sees, and zeros before.

    A blank and _ are one here, however many there are.
    """
    seen = UNSEEN.sub("", re.sub(f"[{BLANK}]", " ", name))
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    words = " ".join(folded.replace("_", " ").split())
    return value(words) if words.isdecimal() else words


def spelled(name: str) -> str:
    """A name in quotes, with numbers for signs that nobody sees, by which alone it may differ from another."""
    return re.sub(f"{UNSEEN.pattern}|[{BLANK}]", lambda sign: ascii(sign[0])[1:-1], repr(name))


def value(number: str) -> str:
    """Digits of any script as 0 to 9, without zeros before; int() refuses very long ones."""
    return "".join(str(unicodedata.decimal(digit)) for digit in number).lstrip("0") or "0"


@dataclass(frozen=True)
class Labels:
    """Names and WordNet ids (empty where a class has none), in the order of the model's outputs."""

    names: tuple[str, ...]
    wnids: tuple[str, ...]
    # In words, where their order is from; the table of classes does not say.
    order: str = field(default="", compare=False)

    @classmethod
    def from_names(cls, names: tuple[str, ...], order: str = "") -> "Labels":
        """Classes without WordNet ids."""
        return cls(names, ("",) * len(names), order)

    def __len__(self) -> int:
        return len(self.names)

    def index(self, text: str) -> int | None:
        """Class number of `n01514668`, `cock` or `7`; None for an unknown or ambiguous one.

        A class may be called `7`: its name goes before the number 7. Where all are called by numbers, a number is a
        name and nothing else.
        """
        name = plain(text)
        return int(name) if self.is_place(name) else self._known.get(name)

    def is_place(self, text: str) -> bool:
        """Whether it counts a class and does not name it."""
        name = plain(text)
        counts = name not in self._known and name.isdecimal() and len(name) <= DIGITS and int(name) < len(self)
        return counts and not self._numbered

    def match(self, names: Sequence[str]) -> list[int | None]:
        """Class number of each class of another list, by WordNet id or name; None for one that is not here.

        If none is here and both lists are as long, they count the same classes: each has the number of its place.
        """
        matched = [self._known.get(plain(name)) for name in names]
        unnamed = len(names) == len(self) and not any(plain(name) in self._known for name in names)
        return list(range(len(self))) if unnamed else matched

    def unknown(self, text: str) -> str:
        """What to say of a label that `index` does not know."""
        near = _nearest(plain(text), self.names)
        nearest = f"; the nearest is {near}" if near else ""
        if self._numbered:
            more = ", ..." if len(self) > LISTED else ""
            allowed = f"the classes are called {', '.join(self.names[:LISTED])}{more}"
        else:
            allowed = f"allowed: 0 to {len(self) - 1}, a WordNet id, or a class name that is unique"
        return f"unknown label {text!r} ({allowed}{nearest})"

    def name(self, index: int) -> str:
        """A class by name; by number where it has none."""
        return self.names[index] if index < len(self) else f"class {index}"

    @cached_property
    def _numbered(self) -> bool:
        """Whether all classes are called by numbers."""
        return all(map(str.isdecimal, self.names))

    @cached_property
    def _known(self) -> dict[str, int | None]:
        """Names and WordNet ids; None for a name that several classes have."""
        names = [plain(name) for name in self.names]
        uses = Counter(names)
        named = {name: index if uses[name] == 1 else None for index, name in enumerate(names)}
        return named | {wnid: index for index, wnid in enumerate(self.wnids) if wnid}


@cache
def _nearest(name: str, names: tuple[str, ...]) -> str | None:
    """Looked for once, however many files lie in a folder of that name."""
    near = difflib.get_close_matches(name, names, 1, cutoff=0) if len(names) <= NEAREST else []
    return near[0] if near else None


def write(labels: Labels, path: Path = LABELS) -> None:
    """One line per class: index, wnid, name."""
    pairs = zip(labels.wnids, labels.names, strict=True)
    files.write_csv(path, ("index", "wnid", "name"), ((index, *pair) for index, pair in enumerate(pairs)))


def read(path: Path = LABELS) -> Labels:
    """The inverse of `write`; PipelineError for a file that is damaged, as one that was cut off."""
    rows = list(files.parse_csv(path, _numbered, "classes"))
    if [index for index, _, _ in rows] != list(range(len(rows))) or not path.read_bytes().endswith(b"\n"):
        raise PipelineError(
            f"{path} is cut off or lacks a class: delete it and run `make repro`", code="labels-cut", file=str(path)
        )
    return Labels(tuple(name for *_, name in rows), tuple(wnid for _, wnid, _ in rows))


def _numbered(row: dict[str, str]) -> tuple[int, str, str]:
    index, wnid, name = (row[column] or "" for column in ("index", "wnid", "name"))
    return int(index), wnid, name


def read_digests(table: Path) -> Iterator[str]:
    """Of each file of a set of images the first quarter of its SHA-256: there may be millions."""
    return (row["sha256"][:16] for _, row in files.read_csv(table, "sha256"))


def read_table(table: Path) -> list[tuple[str, int]]:
    """Files and classes of a set of images, as `images` writes them."""
    return [(row["file"], int(row["label"])) for _, row in files.read_csv(table, "file", "label")]
