import ast
import io
from pathlib import Path

import pytest

from stages.core import errors, shown
from stages.core.errors import PipelineError

STAGES = Path(__file__).parents[2] / "stages"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("at http://user:word@host/a.zip (refused)", "at http://***@host/a.zip (refused)"),
        ("https://token@host/a", "https://***@host/a"),
        ("https://user:wo@rd@host/a", "https://***@host/a"),
        ("postgresql+psycopg2://user:wo/rd@host:5432/db", "postgresql+psycopg2://***@host:5432/db"),
        ("https://user:wo?r#d@host/a", "https://***@host/a"),
        ("'http://a:b@h' and 'http://c:d@h'", "'http://***@h' and 'http://***@h'"),
        ("/set.zip?token=word&page=2", "/set.zip?token=***&page=2"),
        ("h/a?page=2&X-Amz-Signature=0f&X-Amz-Credential=id", "h/a?page=2&X-Amz-Signature=***&X-Amz-Credential=***"),
        ("https://h/a?sv=1&sig=a%2Fb%3D#sha256=00", "https://h/a?sv=1&sig=***#sha256=00"),
        ("https://h/a#access_token=word", "https://h/a#access_token=***"),
        ("{'Authorization': 'Bearer abc.def'}", "{'Authorization': 'Bearer ***'}"),
    ],
)
def test_secrets_of_addresses_are_masked(text: str, masked: str) -> None:
    assert shown.masked(text) == masked
    assert shown.masked(masked) == masked
    assert shown.shown(text) == masked
    assert str(PipelineError(f"could not load {text}", url=text)) == f"could not load {masked}"
    assert errors.describe(ValueError(text)) == f"ValueError: {masked}"


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8080/@me/name@1.0.zip?page=2#sha256=00",
        "sqlite:////home/me@work/mlflow.db",
        "s3://bucket/a@b:c",
        "mail me@host, token=3",
        "red/a@b.png",
        "http://[::1]:80/a",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert shown.masked(text) == text and not shown.has_secret(text)


@pytest.mark.parametrize(
    "text", ["https://h/a?%74oken=word", "https://u%3Aword@h/a", "https://h/a?Key=w", "http://a:b@h"]
)
def test_a_secret_is_found_however_it_is_written(text: str) -> None:
    assert shown.has_secret(text)


@pytest.mark.parametrize("piece", ["://a:b", "?", "?token", "://", "&key=", "a", "authorization: "])
def test_a_long_text_is_masked_at_once(piece: str) -> None:
    """In a fraction of a second; in hours, were a pattern not bounded."""
    assert shown.masked(piece * (300_000 // len(piece))).startswith(piece)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("red/\x1b]0;owned\x07\x1b[2Jx.png", "red/\\x1b]0;owned\\x07\\x1b[2Jx.png"),
        ("a\rb\x9b2J\x7f", "a\\rb\\x9b2J\\x7f"),
        ("caf\udce9.png", "caf\\udce9.png"),
        ("gnp.\u202eexe", "gnp.\\u202eexe"),
        ("größe 日本 🎉\n  next\tline", "größe 日本 🎉\n  next\tline"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_numbers(text: str, told: str) -> None:
    assert shown.shown(text) == told


def test_a_line_is_said_in_the_encoding_of_its_stream() -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii")
    shown.say("größe", "a", to=stream, label="error: ")
    stream.flush()
    assert written.getvalue() == b"error: gr\\xf6\\xdfe\nerror: a\n"


def test_nothing_is_printed_but_by_say() -> None:
    """So that no name and no secret goes around it. Progress bars hold words of ours alone."""
    found = []
    for path in STAGES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called in (
                "print",
                "traceback.print_exc",
                "traceback.print_exception",
                "sys.stderr.write",
                "sys.stdout.write",
            ):
                found.append(f"{path.relative_to(STAGES)}:{node.lineno}")
    assert [place for place in found if "/tests/" not in place] == []


def test_a_traceback_holds_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise RuntimeError("no answer from http://user:word@host")
    except RuntimeError as error:
        errors.tell(error)
    told = capsys.readouterr().err
    assert told.startswith("Traceback (most recent call last):\n") and told.endswith("from http://***@host\n")
