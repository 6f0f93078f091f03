"""Reads YAML that holds plain values alone, in bounded time; what else YAML can say is refused with its line."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from stages.core.errors import PipelineError

# As JSON has them.
Plain = dict[str, "Plain"] | list["Plain"] | str | int | float | bool | None

MAX_BYTES = 1_000_000
MAX_DEPTH = 20
# As JSON has them, and what else DVC's reader, of YAML 1.2, takes for the same. Others are text, such as `yes` and 010.
WORDS = {"": None, "~": None} | {
    spelling: value
    for name, value in (("null", None), ("true", True), ("false", False))
    for spelling in (name, name.capitalize(), name.upper())
}
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
NUMBER = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?")
NOT_FINITE = re.compile(r"([-+]?)\.(inf|nan)", re.IGNORECASE)
# DVC makes a date of it, or fails.
DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt\s].*)?")


def read(path: Path) -> Plain:
    """What the file holds; PipelineError names the line of what is no plain value, and FileNotFoundError passes."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise PipelineError(
            f"{path} has more than {MAX_BYTES:,} bytes, which no settings need: remove what does not belong there",
            code="params-too-large",
            file=str(path),
        )
    try:
        return _Reader(path, content.decode("utf-8-sig")).document()
    except UnicodeDecodeError as error:
        raise _no_yaml(path, content.count(b"\n", 0, error.start) + 1, f"it is not in UTF-8: {error.reason}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _no_yaml(path, mark.line + 1 if mark else 1, str(error.problem)) from None
    except yaml.reader.ReaderError as error:
        line = content[: error.position].count(b"\n") + 1
        raise _no_yaml(path, line, f"{error.reason}: #x{error.character:04x}") from None


def _no_yaml(path: Path, line: int, problem: str) -> PipelineError:
    return PipelineError(
        f"{path}, line {line}, is not valid YAML ({problem}): correct it",
        code="params-no-yaml",
        file=str(path),
        line=line,
    )


class _Reader:
    """Takes the events of YAML as they come: an alias is never followed, and nothing is built of a tag."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.CSafeLoader)

    def document(self) -> Plain:
        """The one document of the file; None for an empty one."""
        next(self.events)  # the stream begins
        start = next(self.events)
        if isinstance(start, yaml.StreamEndEvent):
            return None
        if getattr(start, "version", None) or getattr(start, "tags", None):
            raise self._not_plain(start, "a directive")
        found = self._value(next(self.events), 0)
        next(self.events)  # the document ends
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self._not_plain(after, "a second document")
        return found

    def _value(self, event: yaml.Event, depth: int) -> Plain:
        self._refuse(event, depth)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            return [self._value(item, depth + 1) for item in self._until(yaml.SequenceEndEvent)]
        return self._block(depth)

    def _block(self, depth: int) -> dict[str, Plain]:
        found: dict[str, Plain] = {}
        for key in self._until(yaml.MappingEndEvent):
            self._refuse(key, depth)
            if not isinstance(key, yaml.ScalarEvent):
                raise self._not_plain(key, "a key that is no text")
            if key.value in found:
                raise PipelineError(
                    f"{self.path}, line {_line(key)}: `{key.value}` stands there twice: keep one",
                    code="params-no-yaml",
                    file=str(self.path),
                    line=_line(key),
                )
            found[key.value] = self._value(next(self.events), depth + 1)
        return found

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        while not isinstance(event := next(self.events), end):
            yield event

    def _refuse(self, event: yaml.Event, depth: int) -> None:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise self._not_plain(event, "an anchor or alias (& or *)")
        if getattr(event, "tag", None):
            raise self._not_plain(event, "a tag (!)")
        if depth > MAX_DEPTH:
            raise self._not_plain(event, f"more than {MAX_DEPTH} blocks and lists inside each other")

    def _scalar(self, event: yaml.ScalarEvent) -> Plain:
        text: str = event.value
        if not event.implicit[0]:  # it stands in quotation marks
            return text
        if text in WORDS:
            return WORDS[text]
        if DATE.fullmatch(text):
            raise self._not_plain(event, "a date without quotation marks")
        if INTEGER.fullmatch(text) and len(text) < 400:  # Python refuses longer ones, JSON too
            return int(text)
        if NUMBER.fullmatch(text):
            return float(text)
        not_finite = NOT_FINITE.fullmatch(text)
        return float("".join(not_finite.groups())) if not_finite else text

    def _not_plain(self, event: yaml.Event, what: str) -> PipelineError:
        return PipelineError(
            f"{self.path}, line {_line(event)}, has {what}: write it as text, numbers, lists and blocks of keys",
            code="params-not-plain",
            file=str(self.path),
            line=_line(event),
        )


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
