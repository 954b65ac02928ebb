"""Redact text for a public pull request: no addresses of machines, no markup from outside.

Names of unmanaged adapters and reasons of servers come from outside, and a comment is public.
URLs, IP addresses and absolute paths are left out; markup is shown, not obeyed.
"""

import re

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s`'\")]+", re.IGNORECASE)
_IP = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\[[0-9a-f:]{3,}\](?::\d+)?", re.IGNORECASE)
_PATH = re.compile(
    r"(?<![\w./@-])(?:~|[A-Za-z]:)?[\\/](?:[^\s\\/`'\"():,]+[\\/])*[^\s\\/`'\"():,]+"
)
_MARKUP = re.compile(r"([\\*_\[\]|#~<>&@])")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;"}


def scrubbed(text: str) -> str:
    """Return `text` without URLs, IP addresses and absolute paths."""
    text = _URL.sub("(URL left out)", text)
    text = _IP.sub("(address left out)", text)
    return _PATH.sub("(path left out)", text)


def prose(text: str) -> str:
    """Return `text` as a line of Markdown that shows exactly these words, scrubbed.

    Text between backticks stays code; everywhere else markup and mentions are escaped.
    """
    pieces = " ".join(scrubbed(text).split()).split("`")
    if len(pieces) % 2 == 0:  # a lone backtick opens nothing
        pieces[-2:] = [f"{pieces[-2]}'{pieces[-1]}"]
    return "`".join(
        piece.replace("|", "\\|") if index % 2 else _MARKUP.sub(_escape, piece.replace("->", "→"))
        for index, piece in enumerate(pieces)
    )


def command(text: str) -> str:
    """Return a command as code, and any other words as prose."""
    if not text.startswith("fleetctl "):
        return prose(text)
    return "`" + scrubbed(text).replace("`", "'").replace("|", "\\|") + "`"


def _escape(match: re.Match[str]) -> str:
    found = match[1]
    return _ENTITIES.get(found, f"\\{found}")


def fenced(lines: list[str], language: str, *, as_declared: bool = False) -> list[str]:
    """Return the lines as a code block that no line can end, scrubbed unless they are declared."""
    body = [" ".join(line.splitlines()) for line in lines]
    body = body if as_declared else [*map(scrubbed, body)]
    longest = max((len(run) for line in body for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *body, fence]
