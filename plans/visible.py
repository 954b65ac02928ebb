"""Marks characters that are not seen and commands of CI runners, so that no printed text acts.

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
