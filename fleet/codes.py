"""Lists the error codes with their summaries, and makes diagnostics with a place in the files."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal

from fleet.errors import Diagnostic, Position, did_you_mean

SUMMARIES: Mapping[str, str] = {
    "FC1001": "YAML syntax error",
    "FC1002": "Key given twice",
    "FC1003": "Unknown key",
    "FC1004": "Missing key",
    "FC1005": "Empty file",
    "FC1006": "Not a map of sections",
    "FC1007": "Tab in the indentation",
    "FC1008": "Key is not text",
    "FC1009": "File is not UTF-8 text",
    "FC1010": "No fleet here",
    "FC1011": "Unknown environment",
    "FC1012": "Several documents in one file",
    "FC1013": "File too large or too deeply nested",
    "FC1014": "YAML feature not supported",
    "FC1016": "Another release of fleetctl is required",
    "FC1020": "Variable without a value",
    "FC1021": "Environment variable not set",
    "FC1022": "Malformed placeholder",
    "FC1023": "Overlay deletes what is not there",
    "FC1101": "Wrong kind of value",
    "FC1102": "Invalid name",
    "FC1103": "Version is not quoted",
    "FC1104": "Invalid version",
    "FC1105": "Invalid duration",
    "FC1106": "Invalid size",
    "FC1107": "Invalid percentage",
    "FC1108": "Invalid threshold",
    "FC1109": "Invalid hours",
    "FC1110": "Secret written into the declarations",
    "FC1111": "Number out of range",
    "FC1112": "Unknown choice",
    "FC1113": "Invalid address",
    "FC1115": "Invalid stages of a rollout",
    "FC1141": "Invalid day",
    "FC1142": "Invalid part of the week",
    "FC1143": "Invalid digest",
    "FC1276": "Environment variable in an address",
    "FC1279": "Alias is protected",
    "FC1201": "Unknown tier",
    "FC1202": "Unknown base",
    "FC1203": "Unknown rollout",
    "FC1204": "Unknown gate",
    "FC1205": "Unknown server or host",
    "FC1206": "Unknown time zone",
    "FC1207": "Port given twice",
    "FC1208": "Key does not fit the engine",
    "FC1209": "Host lacks what its engine needs",
    "FC1210": "Version is not in the lock",
    "FC1211": "Adapter rank above the server's limit",
    "FC1212": "Impossible rename",
    "FC1296": "One name for two aliases of a client",
    "FC1213": "One secret for two keys",
    "FC1214": "Metric and threshold do not fit",
    "FC1215": "Flag is set by fleetctl itself",
    "FC1216": "Golden set not found",
    "FC1217": "Lock cannot be read",
    "FC1235": "Home of the state cannot be used",
    "FC1236": "Gateway that other checkouts do not reach",
    "FC1237": "Profile of a base that is not declared",
    "FC1238": "Lock and base disagree",
    "FC1239": "Weights of a base are not known",
    "FC1219": "Base cannot be read",
    "FC1220": "Base cannot be spread over so many devices",
    "FC1221": "Unknown tier or client",
    "FC1222": "Reserved host that no client may use",
    "FC1223": "Unknown alias or client",
    "FC1224": "Adapter apart from itself",
    "FC1225": "Wishes for an adapter's place contradict each other",
    "FC1226": "No recorded demand",
    "FC1227": "Recorded demand cannot be read",
    "FC1228": "Profile cannot be read",
    "FC1240": "Times or shares of a rollout contradict each other",
    "FC1241": "Key does not fit the gate's metric",
    "FC1243": "Override accepts no known version",
    "FC1229": "Output format cannot be used",
    "FC1230": "Shadow of the version itself",
    "FC1231": "Smoke test of too few inputs",
    "FC1232": "No smoke test",
    "FC1233": "Smoke test of too many inputs",
    "FC1246": "Versions that nothing judges",
    "FC1247": "Gate that can pass no version",
    "FC1248": "Gate without a rollout",
    "FC1249": "No judge for a golden set",
    "FC1250": "Template of notices cannot be read",
    "FC1251": "Template of notices is wrong",
    "FC1252": "Evaluations cannot go through a gateway",
    "FC1253": "Billed evaluations that no gateway counts",
    "FC1254": "Gate cannot score its golden set",
    "FC1255": "Capture that no gateway does",
    "FC1256": "More tokens than the base has positions",
    "FC1257": "Limit that a golden set cannot show",
    "FC1258": "Library is not here",
    "FC1260": "A gateway is an Envoy",
    "FC1261": "An Envoy has its admin side on this machine",
    "FC1262": "Kind of device is not known",
    "FC1263": "Version is pinned for another base",
    "FC1264": "Bytes of another client",
    "FC1265": "New version with the bytes of an earlier one",
    "FC1266": "`same_as` does not hold",
    "FC1267": "Engine `local` is this machine alone",
    "FC1268": "Machine declared twice",
    "FC1269": "Keys of servers need gateways of fleetctl's own",
    "FC1290": "Plan rule of no single kind",
    "FC1291": "Exception of a plan rule about nothing",
    "FC1292": "Signatures cannot be checked",
    "FC1293": "Version is not signed",
    "FC1294": "Version is signed by no declared key",
    "FC1295": "Version has other bytes than were signed",
    "FC1299": "Key of the signature has expired",
    "FC1281": "Version has other bytes than before",
    "FC1282": "New key is weak",
    "FC1285": "Path leads out of the project",
    "FC1286": "Path is no regular file",
    "FC1287": "Secret is weak",
    "FC1289": "Path leads into the state folder",
    "FC1301": "No golden items",
    "FC1302": "Golden line is not JSON",
    "FC1303": "Golden item is wrong",
    "FC1304": "Golden item given twice",
    "FC1312": "Too many files in the project",
    "FC1313": "YAML that is read only in small files",
    "FC1330": "Flag that vLLM does not know",
    "FC1331": "Value that does not fit the flag",
    "FC1332": "Flag that the operator must allow",
    "FC1333": "Flags of another release of vLLM",
    "FC1334": "Text that a program could misread",
    "FC1341": "Extension name given twice",
}
"""Summary by code; a code never changes its meaning."""


_SECRET_FIELD = re.compile(r"""(?:^|[\s{,"'])(?:keys?|secret)["']?\s*:""")
"""A field that holds secrets by a reference: the rest of its line is not quoted."""
_FIELD = re.compile(r"""\s*(?:-\s+)*["']?([\w.-]*)["']?\s*(?::(?=\s|$)|-\s)""")
_REFERENCE = re.compile(r"(?:env|file):[^\s,}\]'\"]+")
_USERINFO = re.compile(r"(?<=://)[^/\s@]+(?=@)")
_HIDDEN = "*"
_LONGEST_LINE = 8_192
"""Upper bound of a line's characters that are quoted."""
_LINES_ABOVE = 2_000
"""Upper bound of lines above that are searched for a section of secrets; beyond, all is hidden."""
_SHOWN = 37
"""Upper bound of the characters that a message shows of a longer value, before `…`."""
_SHORT = 4
"""Characters below which a value from the environment is hidden as a whole word alone."""
LEAST_HIDDEN: Final = 8
"""Characters from which such a value is hidden in everything printed; shorter ones are ordinary
words, and no secrets."""


def without_secrets(
    lines: Sequence[str], number: int, column: int = 1
) -> tuple[str, tuple[str, ...]]:
    """Return a line of a declaration without secrets that stand there by mistake, and their words.

    Hidden are values of the fields `key`, `keys` and `secret`, also in a file that is no YAML, and
    the password of a URL; references such as `env:NAME` are not. The line keeps its length.
    `number` and `column` count from 1. A very long line is left out.
    """
    line = lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else ""
    if len(line) > _LONGEST_LINE:
        near = line[max(0, column - _LONGEST_LINE // 2) : column + _LONGEST_LINE // 2]
        field = "key: " if "key" in line or "secret" in line else ""
        return "", without_secrets([f"{field}{near}"], 1)[1]
    begin = _secret_begin(lines, number, line)
    kept = [match.span() for match in _REFERENCE.finditer(line)]
    hidden = [match.span() for match in _USERINFO.finditer(line)]
    hidden += [
        match.span()
        for match in re.finditer(r"[^\s{}\[\],:'\"]{4,}", line)
        if match.start() >= begin and not any(a <= match.start() < b for a, b in kept)
    ]
    shown = list(line)
    for start, end in hidden:
        shown[start:end] = _HIDDEN * (end - start)
    return "".join(shown), tuple(line[start:end] for start, end in hidden)


def _secret_begin(lines: Sequence[str], number: int, line: str) -> int:
    """Return the column from which a line may hold secrets; its length: nowhere."""
    if own := _SECRET_FIELD.search(line):
        return own.end()
    inner = len(line) - len(line.lstrip())
    last = max(0, number - 1 - _LINES_ABOVE)
    for above in reversed(lines[last : max(0, number - 1)]):
        if not inner:
            return len(line)
        depth = len(above) - len(above.lstrip())
        if not above.strip() or above.lstrip().startswith("#") or depth >= inner:
            continue
        if re.match(r"""\s*["']?keys["']?\s*:""", above):
            field = _FIELD.match(line)
            return field.end() if field else 0
        inner = depth
    return 0 if inner and last else len(line)


def hide(text: str, words: Sequence[str]) -> str:
    """Return a text with `…` in the place of words that `without_secrets` has hidden."""
    for word in words:
        text = text.replace(word, "…").replace(word[:37], "…")
    return text


def _in_any_form(character: str) -> str:
    """Return the pattern of a character as text, Markdown, HTML or JSON."""
    if character.isascii() and character.isalnum():
        return character
    its = re.escape(character)
    return rf"(?:`{its}`|\\?{its}|&#?\w+;|(?:\\u[0-9a-f]{{4}}){{1,2}})"


@dataclass(frozen=True, slots=True)
class Sources:
    """Text of the files read, by the name in their positions, to quote from."""

    texts: Mapping[str, str] = field(default_factory=dict)
    filled: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Placeholders by the value that the environment has for them."""
    _lines: dict[str, list[str]] = field(default_factory=dict, repr=False, compare=False)
    """Lines by file, split once: a large file may have thousands of problems."""

    def hold(self, written: str, value: str) -> None:
        """Show a placeholder as `written` in the place of its value, if from the environment."""
        if written.startswith("${env:"):
            lines = (line for line in value.splitlines() if len(line) >= LEAST_HIDDEN)
            self.filled.update(dict.fromkeys(filter(None, (value, *lines)), written))

    def unfilled(self, text: str, shortest: int = 1) -> str:
        """Return a text with placeholders in the place of values from the environment.

        `shortest`: characters below which a value stays.
        """
        for value, written in sorted(self.filled.items(), key=lambda item: -len(item[0])):
            if len(value) < shortest:
                continue
            whole_word = rf"(?<!\w){re.escape(value)}(?!\w)"
            in_any_form = "".join(map(_in_any_form, value))
            text = re.sub(whole_word if len(value) < _SHORT else in_any_form, written, text)
            for size in range(min(len(value), _SHOWN), _SHORT, -1) if "…" in text else ():
                text = text.replace(f"{value[:size]}…", f"{written}…")
        return text

    def line(self, place: Position) -> str:
        """Return the line at `place` without secrets; empty where the file is not a source."""
        return self.quoted(place)[0]

    def quoted(self, place: Position) -> tuple[str, tuple[str, ...]]:
        """Return the line at `place`, and the words in the line that are hidden as secrets."""
        lines = self._lines.get(place.file)
        if lines is None:
            lines = self._lines[place.file] = self.texts.get(place.file, "").split("\n")
        return without_secrets(lines, place.line, place.column)


def diagnostic(
    code: str,
    detail: str,
    place: Position | None = None,
    *,
    source: str = "",
    width: int = 1,
    hint: str = "",
    command: str = "",
    also: tuple[tuple[str, Position], ...] = (),
    severity: Literal["error", "warning"] = "error",
) -> Diagnostic:
    """Return the diagnostic of a code in `SUMMARIES`."""
    summary = SUMMARIES[code]
    return Diagnostic(code, summary, detail, place, source, width, hint, command, also, severity)


@lru_cache(maxsize=1024)
def nearest(word: str, choices: tuple[str, ...]) -> str:
    """Return `did_you_mean` from a cache, for a mistake that is made a thousand times."""
    return did_you_mean(word[:100], choices)


def scalar_width(line: str, column: int) -> int:
    """Return how many characters the scalar at a column (from 1) takes on its line."""
    rest = line[column - 1 :]
    if rest[:1] in {'"', "'"}:
        end = rest.find(rest[0], 1)
        return end + 1 if end > 0 else len(rest)
    for position, character in enumerate(rest):
        pair = rest[position : position + 2]
        if position and (character in ",]}" or pair in {": ", ":", " #"}):
            return len(rest[:position].rstrip())
    return max(1, len(rest.rstrip()))
