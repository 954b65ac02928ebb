"""Build Envoy's access logs: rows like those of fleetctl's gateway, and metrics."""

from typing import Final

from fleet.traffic import LATENCY_BOUNDS_S
from plans.compile.envoy import messages
from plans.compile.envoy.endpoints import SERVED
from plans.compile.envoy.messages import Json, extension

ROWS: Final = "usage.jsonl"
IN_FLIGHT: Final = "in_flight"

_CLIENT: Final = f"%FILTER_STATE({messages.CLIENT_STATE}:PLAIN)%"
_ALIAS: Final = f"%METADATA(ROUTE:{messages.NAMESPACE}:alias)%"
_VERSION: Final = f"%FILTER_STATE({messages.VERSION_STATE}:PLAIN)%"
_SERVER: Final = f"%UPSTREAM_METADATA({messages.NAMESPACE}:server)%"
_INPUT: Final = f"%DYNAMIC_METADATA({messages.NAMESPACE}:input_tokens)%"
_OUTPUT: Final = f"%DYNAMIC_METADATA({messages.NAMESPACE}:output_tokens)%"
_LATENCY: Final = "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%"
_FIRST_BYTE: Final = "%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:us)%"
_ROW: Final[dict[str, str]] = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3f+00:00)%",
    "request_id": "%STREAM_ID%",
    "client": _CLIENT,
    "alias": _ALIAS,
    "version": _VERSION,
    "server": _SERVER,
    "path": "%PATH(NQ:PATH)%",
    "revision": f"%METADATA(VIRTUAL_HOST:{messages.NAMESPACE}:revision)%",
    "status": "%RESPONSE_CODE%",
    "latency_us": _LATENCY,
    "first_byte_us": _FIRST_BYTE,
    "duration_ms": "%DURATION%",
    "input_tokens": _INPUT,
    "output_tokens": _OUTPUT,
    "stream": f"%FILTER_STATE({messages.STREAM_STATE}:PLAIN)%",
    "flags": "%RESPONSE_FLAGS%",
    "digest": f"%FILTER_STATE({messages.DIGEST_STATE}:PLAIN)%",
    "traceparent": "%REQ(traceparent):56%",
}
"""Fields of a row; Envoy has no fractions, so durations are microseconds. A `traceparent` of more
than 55 characters is malformed: the 56th shows that."""


def access_logs(folder: str) -> list[Json]:
    """Return the loggers: a row, a count and the tokens of every request to an endpoint."""
    row = extension(
        "fleetctl.rows",
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path=f"{folder}/{ROWS}",
        log_format={"json_format": _ROW},
    )
    served = _stats(
        "fleetctl.metrics",
        counters=[_counter("requests", status="%RESPONSE_CODE%")],
        histograms=[_histogram("request_microseconds", _LATENCY, "Microseconds")],
    )
    counted = _stats(
        "fleetctl.token_metrics",
        counters=[_counter("input_tokens", _INPUT), _counter("output_tokens", _OUTPUT)],
        histograms=[_histogram("first_byte_microseconds", _FIRST_BYTE, "Microseconds")],
    )
    asked = {"header_filter": {"header": {"name": ":path", "string_match": _SERVED}}}
    # Refusals without a valid key are counted and leave no row: strangers fill no disk.
    known = {
        "extension_filter": extension(
            "fleetctl.known",
            "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            expression=f"'{messages.CLIENT_STATE}' in filter_state",
        )
    }
    return [
        row | {"filter": {"and_filter": {"filters": [asked, known]}}},
        served | {"filter": asked},
        counted | {"filter": {"and_filter": {"filters": [asked, _COUNTED]}}},
    ]


def in_flight_log() -> Json:
    """Return the logger that counts the requests in flight, by server and version.

    The gauge rises when a request has a connection to a server and falls when the connection
    ends. A drain waits for the gauge.
    """
    # Filter states are not seen there, the header that goes to the server is.
    tags = {"server": _SERVER, "version": f"%REQ({messages.VERSION})%"}
    stat = {"name": IN_FLIGHT, "tags": [{"name": n, "value_format": v} for n, v in tags.items()]}
    paired = {"add_log_type": "UpstreamPoolReady", "sub_log_type": "UpstreamEnd"}
    gauge = {"stat": stat, "value_fixed": 1, "add_subtract": paired}
    return _stats("fleetctl.in_flight", gauges=[gauge])


def _stats(name: str, **fields: list[Json]) -> Json:
    kind = "envoy.extensions.access_loggers.stats.v3.Config"
    return extension(name, kind, stats_scope={"prefix": "fleetctl"}, **fields)


_BUCKETS: Final = [round(bound * 1e6) for bound in LATENCY_BOUNDS_S]
STATS_CONFIG: Final[Json] = {
    "histogram_bucket_settings": [{"match": {"prefix": "fleetctl."}, "buckets": _BUCKETS}]
}
"""Buckets of fleetctl's own gateway, so that a promise is a bound; Envoy's own end at 3.6 s."""
_SERVED: Final[Json] = {"safe_regex": {"regex": f"({SERVED})(\\?.*)?"}}
_COUNTED: Final[Json] = {
    "metadata_filter": {
        "matcher": {
            "filter": messages.NAMESPACE,
            "path": [{"key": "output_tokens"}],
            "value": {"present_match": True},
        },
        "match_if_key_not_found": False,
    }
}


def _counter(name: str, value: str = "", **tags: str) -> Json:
    made: Json = {"stat": _stat(name, **tags)}
    return made | ({"value_format": value} if value else {"value_fixed": 1})


def _histogram(name: str, value: str, unit: str) -> Json:
    return {"stat": _stat(name), "unit": unit, "value_format": value}


def _stat(name: str, **more: str) -> Json:
    tags = {"client": _CLIENT, "alias": _ALIAS, "version": _VERSION, **more}
    return {
        "name": name,
        "tags": [{"name": tag, "value_format": value} for tag, value in tags.items()],
    }
