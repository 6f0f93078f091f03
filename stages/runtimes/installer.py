"""Calls uv, which makes environments, with the package index that pip is told of."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

# By a variable of pip that of uv.
OF_PIP = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_CERT": "SSL_CERT_FILE",
}
# Of what uv tells: a builder's traceback, whose last line says more.
FRAMES = re.compile(r"\s{11}|\s*(?:Traceback|During handling|\[stderr\]|\*{3})")
# What uv draws before its lines.
MARKS = " \t\u00d7\u2570\u2500\u25b6\u2502\u251c\u00b7"


def call(variables: Mapping[str, str], *arguments: str | Path) -> str | None:
    """Run uv with these variables; why it failed, or None. OSError or ImportError where there is no uv."""
    from uv import find_uv_bin

    command = [find_uv_bin(), "--quiet", "--no-config", *map(str, arguments)]
    done = subprocess.run(command, env=_index() | {**variables}, capture_output=True, text=True, check=False)
    return reason(done.stderr) if done.returncode else None


def _index() -> dict[str, str]:
    """uv reads no settings of pip: the package index that pip is told is uv's too."""
    found = {theirs: os.environ[pip] for pip, theirs in OF_PIP.items() if pip in os.environ}
    places = found.get("UV_FIND_LINKS", "").split()  # uv parts them by commas
    return found | ({"UV_FIND_LINKS": ",".join(places)} if places else {})


def reason(told: str) -> str:
    """uv's own words on one line, without its arrows."""
    lines = [line.strip(MARKS) for line in told.splitlines() if not FRAMES.match(line)]
    return "; ".join(filter(None, lines))[:600] or "uv does not say why"
