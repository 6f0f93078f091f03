"""What may be shown: text without the secrets of addresses, and without characters that a terminal obeys."""

import re
import sys
from typing import TextIO
from urllib.parse import unquote

HIDDEN = "***"
# scheme://user:password@host, also where the password holds a slash; but host:8080/name@1.0 is none. Bounds on what is
# repeated keep a long text from taking minutes.
LOGIN = re.compile(r"(?<=://)(?:[^/\s?#\"'<>]{0,500}|[^/\s:\"'<>]{1,200}:(?!\d*(?:[/\s?#]|$))[^\s\"'<>]{0,500})@")
# Signatures and tokens of an address, such as ?sig= and &X-Amz-Credential=.
SECRET = "token|sig|secret|passw|pwd|credential|auth|access|key|jwt|session|policy|bearer"
QUERY = re.compile(rf"([?&;#][^=&;#\s]{{0,99}}(?:{SECRET})[^=&;#\s]{{0,99}}=)[^&;#\s\"'<>),\]]+", re.IGNORECASE)
HEADER = re.compile(r"(authorization[\"']?\s{0,9}[:=]\s{0,9}[\"']?(?:\w{1,20}\s+)?)[^\s\"',]+", re.IGNORECASE)


def masked(text: str) -> str:
    """The text, with `***` for every login, signature and token of an address in it."""
    text = LOGIN.sub(f"{HIDDEN}@", text)
    return HEADER.sub(rf"\g<1>{HIDDEN}", QUERY.sub(rf"\g<1>{HIDDEN}", text))


def has_secret(text: str) -> bool:
    """Whether an address in the text carries a login, a signature or a token, however it is written."""
    return "://" in text and any(masked(form) != form for form in (text, unquote(text)))


def shown(text: str) -> str:
    """The text masked, and with its number for every character that is no letter, sign or space.

    So no name of a file or class can move the cursor of a terminal, or hide what follows.
    """
    text = masked(text)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def say(*lines: str, to: TextIO | None = None, label: str = "") -> None:
    """Print lines on stdout, or on another stream; what its encoding lacks stands there as numbers."""
    stream = to or sys.stdout
    encoding = stream.encoding or "utf-8"
    for line in lines:
        stream.write(label + shown(line).encode(encoding, "backslashreplace").decode(encoding) + "\n")
