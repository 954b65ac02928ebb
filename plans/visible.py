"""Marks characters that are not seen and commands of CI runners; keeps secrets out of public text.

A mark is the character's JSON escape: in JSON the value stays the same, and people see the mark.
"""

import re
from typing import Final

_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]"
    "|(?<=[\ufe00-\ufe0f])[\ufe00-\ufe0f]"
)
"""Characters that a reader does not see, or that move or hide others: controls but the line break
and the tab, directions, joiners, tags, halves of characters, repeated variation selectors."""
_COMMAND: Final = re.compile(r"(?m)(^[^\S\n]*):(?=:)|#(?=#\w*\[)|(section_(?:start|end)):(?=\d)")
"""Beginnings of commands of GitHub's, Azure's and GitLab's runners in a log."""
_CHAT: Final = re.compile(r"(?i)<(?=[!@#]|[a-z][a-z0-9+.-]*:)|@(?=everyone|here|channel)")
"""Beginnings of mentions and links of chats."""


def visible(text: str) -> str:
    """Return the text with marks in the place of characters that are not seen."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSEEN.sub(lambda found: _mark(found[0]), text)


def one_line(text: str) -> str:
    """Return the text as a single line, with marks for line breaks too."""
    return visible(text).replace("\n", _mark("\n")).replace("\t", " ")


def harmless(text: str) -> str:
    """Return printed text that neither a terminal nor the runner of a CI obeys."""
    return _COMMAND.sub(_without_command, visible(text))


def quiet(text: str) -> str:
    """Return the text of a notice without mentions and hidden addresses."""
    return _CHAT.sub(lambda found: _mark(found[0]), visible(text))


def _without_command(found: re.Match[str]) -> str:
    before = found[1] or found[2] or ""
    return before + _mark(found[0][len(before) :])


def _mark(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s`'\")]+", re.IGNORECASE)
_IP = re.compile(
    r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b|\[(?=[0-9a-f]*:)[0-9a-f:]{3,}\](?::\d+)?", re.IGNORECASE
)
_PATH = re.compile(
    r"(?<![\w./@-])(?:~|[A-Za-z]:)?[\\/](?:[^\s\\/`'\"():,]+[\\/])*[^\s\\/`'\"():,]+"
)
_MARKUP = re.compile(r"([\\*_\[\]|#~<>&@])")
_RUNS = re.compile("(`+)")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "@": "&#64;"}
_LIVE = re.compile(r"@(?=\w)|#(?=\d)|\bGH-(?=\d)|\bwww\.(?=\w)|\b[0-9a-f]{7,40}\b", re.IGNORECASE)
"""Commits, and beginnings of mentions, references and links, which a forge makes of rendered text.

As code they are none. An entity or a backslash does not help: the rendered text is the same."""
_BLOCK = re.compile(r"^(?:[-+](?=\s)|-{2,}$|=+$|\d{1,9}(?=[.)](?:\s|$)))")
"""Beginnings of lists and underlines of headings."""


def scrubbed(text: str) -> str:
    """Return `text` without URLs, IP addresses and absolute paths, all characters visible."""
    text = visible(text)
    text = _URL.sub("(URL left out)", text)
    text = _IP.sub("(address left out)", text)
    return _PATH.sub("(path left out)", text)


def prose(text: str) -> str:
    """Return `text` as a line of Markdown that shows exactly these words, scrubbed.

    Text between backticks stays code; everywhere else markup and mentions are escaped.
    """
    pieces = _RUNS.split(" ".join(scrubbed(text).split()))
    shown, index = [], 0
    while index < len(pieces):
        piece, run = pieces[index], pieces[index + 1] if index + 1 < len(pieces) else ""
        shown.append(_plain(piece, first=not index))
        ends = (at for at in range(index + 3, len(pieces), 2) if pieces[at] == run)
        end = next(ends, None) if run else None
        if end is None:  # backticks that nothing closes
            shown.append("'" * len(run))
            index += 2
            continue
        code = "".join(pieces[index + 2 : end]).replace("|", "\\|")
        shown.append(f"{run}{code}{run}")
        index = end + 1
    return "".join(shown)


def _plain(piece: str, *, first: bool) -> str:
    piece = piece.replace("->", "→")
    if first and (found := _BLOCK.match(piece)):
        mark = found[0]
        kept = f"{mark}\\" if mark.isdecimal() else f"\\{mark}"
        return kept + _plain(piece[found.end() :], first=False)
    parts, at = [], 0
    for live in _LIVE.finditer(piece):
        apart = "" if first or live.start() else " "  # from backticks before
        parts += [_MARKUP.sub(_escape, piece[at : live.start()]), f"{apart}`{live[0]}`"]
        at = live.end()
    return "".join([*parts, _MARKUP.sub(_escape, piece[at:])])


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
