"""Conditions on a request's headers, as Envoy's generic matchers have them."""

from plans.envoy.wire import Json, extension

_INPUT = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput"


def header_input(name: str) -> Json:
    """Return a header as that which is looked at."""
    return extension("header", _INPUT, header_name=name)


def is_like(name: str, value: str = "(?s).*") -> Json:
    """Return whether a header is there and is such a value, a regular expression of all of it."""
    match = {"safe_regex": {"google_re2": {}, "regex": value}}
    return {"single_predicate": {"input": header_input(name), "value_match": match}}


def is_other(name: str, value: str) -> Json:
    """Return whether a header is there and is no such value."""
    return every(is_like(name), no(is_like(name, value)))


def every(*predicates: Json) -> Json:
    """Return whether all of these hold; two or more."""
    return {"and_matcher": {"predicate": list(predicates)}}


def no(predicate: Json) -> Json:
    """Return whether it does not hold."""
    return {"not_matcher": predicate}
