"""Rollouts, gates and overrides that cannot mean what they say."""

from tests.broken.case import Case, F

_RETAIN = "retain: 7d"
_ACCURACY = "  accuracy: {metric: accuracy_drop, max: 3pp}\n"
_ACCEPT = (
    '  fine: {accept: "sha256:000000000000", alias: acme-support, reason: agreed, by: ana, '
    "until: 2026-12-01}\n"
)


def _override(name: str, old: str, new: str, code: str, column: int, says: str) -> Case:
    broken = "overrides:\n" + _ACCEPT.replace(old, new)
    return Case(name, F, "gates:\n  acc", f"{broken}gates:\n  acc", code, f"{F}:29:{column}", says)


def _gate(name: str, text: str, code: str, column: int, says: str) -> Case:
    return Case(name, F, _ACCURACY, _ACCURACY + f"  live: {text}\n", code, f"{F}:30:{column}", says)


CASES = [
    Case("bake above its most", F, _RETAIN, "max_bake: 1h", "FC1240", f"{F}:27:61", "`bake`"),
    Case("low traffic too low", F, _RETAIN, "low_traffic: 5%", "FC1240", f"{F}:27:64", "larger"),
    Case(
        "part of the week without end",
        F,
        _RETAIN,
        'no_promote: ["Fri 16:00"]',
        "FC1142",
        f"{F}:27:64",
        "Fri 16:00-Mon 08:00",
    ),
    Case(
        "part of the week that is none",
        F,
        _RETAIN,
        'no_promote: ["Fri 16:00-fri 16:00"]',
        "FC1142",
        f"{F}:27:64",
        "Fri 16:00-Mon 08:00",
    ),
    Case(
        "part of the week that ends before it begins",
        F,
        _RETAIN,
        'no_promote: ["Sun 22:00-Sun 02:00"]',
        "FC1142",
        f"{F}:27:64",
        "Sun 22:00-Mon 02:00",
    ),
    Case(
        "zone of the bills", F, "fleet: demo\n", "fleet: demo\ncosts: {timezone: Mars/Base}\n",
        "FC1206", f"{F}:2:19", "Europe",
    ),
    Case("zone of a pause", F, _RETAIN, "timezone: Mars/Base", "FC1206", f"{F}:27:61", "Europe"),
    Case("what to do when unsure", F, _RETAIN, "when_unsure: go", "FC1112", f"{F}:27:64", "hold"),
    Case(
        "golden set of a gate",
        F,
        "max: 3pp",
        "max: 3pp, golden: no.jsonl",
        "FC1216",
        f"{F}:29:55",
        "golden",
    ),
    Case("tolerance", F, "max: 3pp", "max: 3pp, tolerate: 2x", "FC1241", f"{F}:29:47", "Delete"),
    _gate("floor of live requests", "{metric: error_rate, max: 2%, floor: 90%}", "FC1241", 39,
          "`floor`"),
    _gate(
        "tolerance of a fixed limit",
        "{metric: error_rate, max: 2%, tolerate: 2x}",
        "FC1241",
        39,
        "`tolerate`",
    ),
    _gate("faster than before", "{metric: p95_ratio, max: 0.9x}", "FC1214", 34, "1.5x"),
    _gate("a limit of nothing", "{metric: error_rate_rise, max: 0pp}", "FC1214", 40, "3pp"),
    _gate("a limit of everything", "{metric: error_rate, max: 100%}", "FC1214", 35, "3%"),
    _gate("a limit by itself", "{metric: error_rate, max: auto}", "FC1214", 35, "Write such as"),
    _gate("tolerated fraction", "{metric: p95_ratio, max: 2x, tolerate: 0.5x}", "FC1214", 48,
          "1.25x"),
    _gate("tolerated points", "{metric: p95_ratio, max: 2x, tolerate: 5pp}", "FC1214", 48, "1.25x"),
    _override("day that is none", "2026-12-01", "2026-13-01", "FC1141", 94, "2026-12-01"),
    _override("day in words", "2026-12-01", "soon", "FC1141", 94, "2026-12-01"),
    _override("digest too short", "000000000000", "00", "FC1143", 18, "12 hex digits"),
    _override("override for nobody", "acme-support", "acme-suport", "FC1223", 48, "acme-support"),
    _override("override without a reason", "reason: agreed, ", "", "FC1004", 3, "reason"),
]  # fmt: skip
