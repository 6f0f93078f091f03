"""The docs hold together: links, limits of length, commands and keys that exist."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SHELL = ("console", "sh")
# What names pages, but is none itself.
NAMING = [ROOT / name for name in ("params.yaml", "Makefile", "pyproject.toml")]
PARAMS = ROOT / "docs/reference/params.md"


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def prose(page: Path) -> str:
    """The page without its code blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Targets of the links and images that stay inside the repository."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return [target for target in LINK.findall(text) if not re.match(r"[a-z]+:", target)]


@cache
def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*?) *$", prose(page), re.MULTILINE):
        words = LINK.sub("", heading).replace("[", "").lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(next(s for n in range(len(found) + 1) if (s := f"{slug}-{n}" if n else slug) not in found))
    return found


def problem(page: Path, target: str) -> str | None:
    """What is wrong with a link; None: nothing."""
    place, _, anchor = target.partition("#")
    file = (page.parent / place).resolve() if place else page
    if not file.is_relative_to(ROOT) or not file.exists():
        return f"{target}: no such file"
    if anchor and anchor not in anchors(file):
        return f"{target}: no such heading"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_and_images_resolve(page: Path) -> None:
    assert [found for target in links(page) if (found := problem(page, target))] == []


def test_a_broken_link_is_seen() -> None:
    page = ROOT / "README.md"
    assert problem(page, "docs/no-such-page.md") == "docs/no-such-page.md: no such file"
    assert problem(page, "LICENSE/../../elsewhere") == "LICENSE/../../elsewhere: no such file"
    assert problem(page, "CONTRIBUTING.md#no-such-heading") == "CONTRIBUTING.md#no-such-heading: no such heading"
    assert problem(page, "CONTRIBUTING.md#add-a-runtime") is None


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in seen:
            seen.add(page)
            targets = ((page.parent / target.partition("#")[0]).resolve() for target in links(page))
            waiting += [file for file in targets if file.suffix == ".md" and file.exists()]
    generated_or_for_tools = {ROOT / "AGENTS.md"}
    assert {name(page) for page in PAGES} - {name(page) for page in seen | generated_or_for_tools} == set()


@pytest.mark.parametrize(("page", "most_lines", "most_words"), [("README.md", 150, 1500), ("AGENTS.md", 60, 1000)])
def test_the_first_pages_stay_short(page: str, most_lines: int, most_words: int) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= most_lines
    assert len(text.split()) <= most_words


def commands() -> list[str]:
    """Every `make TARGET` in a code block or a code span of any page."""
    found: set[str] = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = [block for language, block in FENCE.findall(text) if language in SHELL]
        code += re.findall(r"`([^`\n]+)`", prose(page))
        found |= {target for block in code for target in re.findall(r"(?<![\w-])make ([a-z][a-z-]*)", block)}
    return sorted(found)


@pytest.mark.parametrize("target", commands())
def test_every_make_target_that_the_docs_name_exists(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert target in re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE)


@pytest.mark.parametrize("file", [*NAMING, *sorted((ROOT / "stages").rglob("*.py"))], ids=name)
def test_every_page_that_code_and_settings_name_exists(file: Path) -> None:
    named = re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text(encoding="utf-8"))
    assert [page for page in named if "NAME" not in page and not (ROOT / page).exists()] == []


def flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """The keys of all blocks, with dots, and their values."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{above}{key}.")
        else:
            found[above + key] = value
    return found


def documented() -> dict[str, Any]:
    """Keys and defaults in the tables of the reference."""
    text = PARAMS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \|.*\| `([^`]*)` \|$", text, re.MULTILINE)
    assert len(rows) == len({key for key, _ in rows}), "a key stands there twice"
    return {key: yaml.safe_load(default) for key, default in rows}


def test_the_reference_has_every_key_of_params_yaml_with_its_default() -> None:
    assert documented() == flat(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
