"""Formats, shadows, limits and TLS to servers that cannot be meant."""

from tests.broken.case import A, Case, F

_AFTER = "        latency:"
_SMOKE = 'smoke: ["I was charged twice for May.", Help!, Cancel my plan., Where is it, Thanks]'


def _case(name: str, line: str, code: str, column: int, says: str) -> Case:
    new = f"        {line}\n{_AFTER}"
    return Case(name, A, _AFTER, new, code, f"{A}:11:{column}", says)


def _smoke(name: str, inputs: str, column: int, says: str) -> Case:
    return Case(name, A, _SMOKE, f"smoke: [{inputs}]", "FC1231", f"{A}:10:{column}", says)


def _tls(name: str, files: str, code: str, column: int, says: str) -> Case:
    old = '{url: "http://10.0.0.5:8000",'
    new = f'{{tls: {{{files}}}, url: "https://10.0.0.5:8000",'
    new = new if "plain" not in name else new.replace("https", "http")
    return Case(name, F, old, new, code, f"{F}:22:{column}", says)


CASES = [
    _tls("tls over plain HTTP", "ca: /a.pem", "FC1208", 17, "Write https://"),
    _tls("a key without its certificate", "key: /a.pem", "FC1208", 23, "`certificate`"),
    _tls("a name that no authority vouches for", "name: gpu7", "FC1208", 23, "Add `ca`"),
    _tls("an authority from the checkout", "ca: ca.pem", "FC1334", 27, "no file of a checkout"),
    _case("format in other words", "format: yaml", "FC1112", 17, "labels: [billing"),
    _case("two formats", "format: {regex: a, labels: [b]}", "FC1112", 9, "Write `json`"),
    _case("label of spaces", "format: {labels: [' ']}", "FC1101", 9, "spaces around"),
    _case("pattern that is none", "format: {regex: '('}", "FC1229", 9, "RE2"),
    _case("schema that is not there", "format: {json_schema: x.json}", "FC1229", 9, "`x.json`"),
    _case("shadow of itself", 'shadow: {version: "2.1.0"}', "FC1230", 27, "Name another"),
    _case("shadow that is not locked", 'shadow: {version: "3.0.0"}', "FC1210", 27, "adapter add"),
    _case("limit of nothing", "limits: {concurrency: 0}", "FC1111", 31, "at least 1"),
    _case("queue without a unit", "limits: {queue: 2}", "FC1105", 25, "no unit"),
    _case("stickiness in other words", "sticky: cookie", "FC1112", 17, "session"),
    _smoke("smoke test of four inputs", "a, b, c, d", 9, "Give 5 to 10 known ones"),
    _smoke("smoke test with an input asked twice", "a, b, c, d, e, b", 32, "input 2 of 6"),
]
