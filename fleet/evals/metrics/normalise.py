"""Normalisers: which differences between two texts do not count."""

import string
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

NORMALISERS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "strip": str.strip,
        "casefold": str.casefold,
        "whitespace": lambda text: " ".join(text.split()),
        "unicode": lambda text: unicodedata.normalize("NFKC", text),
        "punctuation": lambda text: text.translate(str.maketrans("", "", string.punctuation)),
    }
)
USUAL = ("strip",)


def normalised(text: str, options: Mapping[str, Any]) -> str:
    """Return the text after the normalisers that `options` names, in their order."""
    for name in options.get("normalise", USUAL):
        text = NORMALISERS[name](text)
    return text


def fault(options: Mapping[str, Any]) -> str:
    """Say what is wrong with the normalisers that `options` names."""
    names = options.get("normalise", USUAL)
    if not isinstance(names, list | tuple):
        return f"`normalise` is a list of {', '.join(NORMALISERS)}"
    unknown = [str(each) for each in names if each not in list(NORMALISERS)]  # a list has no hash
    if unknown:
        return f"`normalise` knows {', '.join(NORMALISERS)}, not {', '.join(unknown)}"
    return ""
