"""Words the type and the unit of a field from its JSON Schema."""

from typing import Any

TEXTS = {
    "24h": ("duration", "s, m, h, d or w"),
    "500ms": ("time", "ms or s"),
    "80GiB": ("size", "B, KiB to TiB, KB to TB"),
    "3pp": ("threshold", "pp (percentage points), %, x (times), ms or s"),
    "09-18": ("hours from-to", "hours of the day"),
    "env:ACME_KEY": ("place of a secret, `env:NAME` or `file:PATH`", ""),
    "2.1.0": ("version, quoted", ""),
    "2026-12-01": ("day", ""),
    "Fri 16:00-Mon 08:00": ("part of the week", "day and time"),
    "sha256:41f0cc9d0a09": ("digest", ""),
    ">=0.1,<2": ("range of releases", ""),
}
"""Type and unit of a text by the example in its schema."""
NAME = "^(?:[a-z][a-z0-9]*(?:_[a-z0-9]+)*)$"
URL = "^(?:https?://"
NUMBERS = {"integer": "whole number", "number": "number"}
MOST = 2**31


def in_words(entry: dict[str, Any], defs: dict[str, Any]) -> str:  # noqa: PLR0911 (a table)
    """Return the type of a field, with links to the sections of its maps."""
    if "$ref" in entry:
        name = entry["$ref"].rpartition("/")[2]
        its = defs[name]
        return in_words(its, defs) if "enum" in its else f"[{name}](#{name.lower()})"
    if entry.get("examples") == ["10%"]:
        return "percentage"
    if "anyOf" in entry:
        kept = [part for part in entry["anyOf"] if not _is_left_out(part)]
        return _either([in_words(part, defs) for part in kept])
    if "enum" in entry:
        return _either([f"`{value}`" for value in entry["enum"]])
    match entry.get("type"):
        case list() as kinds:
            return _either([in_words({"type": kind}, defs) for kind in kinds])
        case "array":
            return f"list of {in_words(entry['items'], defs)}"
        case "object":
            return _map(entry, defs)
        case "integer" | "number" as kind:
            return f"{NUMBERS[kind]}{_range(entry)}"
        case "boolean":
            return "`true` or `false`"
        case _:
            return _text(entry)


def _is_left_out(part: dict[str, Any]) -> bool:
    """Say whether a part is the absence of a value, or a placeholder for the value."""
    return part.get("type") == "null" or str(part.get("pattern")).startswith(r"\$\{")


def _either(words: list[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _map(entry: dict[str, Any], defs: dict[str, Any]) -> str:
    if "properties" in entry:
        return f"map with `{'`, `'.join(entry['properties'])}`"
    inner = [*entry.get("patternProperties", {}).values(), entry.get("additionalProperties")][0]
    return f"map of names to {in_words(inner, defs)}"


def _range(entry: dict[str, Any]) -> str:
    if "minimum" not in entry:
        return ""
    least, most = entry["minimum"], entry.get("maximum", MOST)
    return f", {least} to {most}" if most < MOST else f", {least} or more"


def _text(entry: dict[str, Any]) -> str:
    if "const" in entry:
        return f"`{entry['const']}`"
    for example in entry.get("examples", ()):
        if example in TEXTS:
            return TEXTS[example][0]
    pattern = entry.get("pattern", "")
    if pattern == NAME:
        return "name"
    return "URL" if pattern.startswith(URL) else "text"


def unit(entry: dict[str, Any]) -> str:
    """Return the unit that a field's type has, or `?` for a bare number."""
    if entry.get("examples") == ["10%"]:
        return "%"
    parts = [*entry.get("anyOf", ()), entry.get("items")]
    if found := next((part for part in map(unit, filter(None, parts)) if part), ""):
        return found
    if "enum" in entry or entry.get("maximum") == 65535:
        return ""
    if entry.get("type") in NUMBERS:
        return "?"
    return next((TEXTS[each][1] for each in entry.get("examples", ()) if each in TEXTS), "")
