"""Envoy's documents: servers by their URLs, kept headers, and what the real Envoy takes."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import ConfigError
from fleet.resources import Route, Share
from plans.compile.envoy import CLUSTERS_FILE, ROUTES_FILE, Credential, RoutePlace, Routing
from plans.compile.envoy import files as files_of_envoy
from plans.compile.envoy import whole as whole_of_envoy
from plans.compile.envoy.endpoints import KEPT, others
from tests.runtime.gateway.envoy_stage import PROGRAM, needs_envoy

OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"


def rendered(folder: Path, urls: dict[str, str], *shares: Share) -> dict[str, Any]:
    """Return the files of one alias, parsed."""
    routes = {"acme-support": Route("acme-support", shares, r"a\1\\b")}
    secret = (Credential("acme", "made-up"),)
    routing = Routing(7, "0" * 64, urls, routes, secret)
    place = RoutePlace("main", "127.0.0.1:0", str(folder), str(folder / "admin.sock"))
    (folder / "whole.json").write_text(whole_of_envoy(routing, place), encoding="utf-8")
    return {name: json.loads(text) for name, text in files_of_envoy(routing, place).items()}


def first_cluster(files: dict[str, Any]) -> dict[str, Any]:
    return dict(files[CLUSTERS_FILE]["resources"][0])


@needs_envoy
@pytest.mark.parametrize(
    ("urls", "kind", "port", "secure"),
    [
        ({"s1": "http://10.0.0.1:8000", "s2": "http://10.0.0.2:8000/"}, "STATIC", 8000, False),
        ({"s1": "http://gpu1/", "s2": "http://gpu2"}, "STRICT_DNS", 80, False),
        ({"s1": "https://gpu1/vllm", "s2": "https://gpu2/vllm/"}, "STRICT_DNS", 443, True),
        ({"s1": "http://[::1]:8000", "s2": "http://[::2]:8000"}, "STATIC", 8000, False),
        ({"s2": "http://10.0.0.2:8000"}, "STATIC", 8000, False),
        ({}, "STATIC", None, False),
    ],
)  # fmt: skip
def test_servers_are_reached_as_their_urls_say(
    tmp_path: Path, urls: dict[str, str], kind: str, port: int | None, *, secure: bool
) -> None:
    shares = (Share(NEW, 10, ("s1", "s2")), Share(OLD, 90, ("s1", "s2")))
    files = rendered(tmp_path, urls, *shares)
    cluster = first_cluster(files)
    assert (cluster["type"], "transport_socket" in cluster) == (kind, secure)
    assert cluster["name"] == ("+".join(sorted(urls)) or "no-server")
    (locality,) = cluster["load_assignment"]["endpoints"]
    found = [each["endpoint"]["address"]["socket_address"] for each in locality["lb_endpoints"]]
    assert [each["port_value"] for each in found] == [port] * len(urls)
    text = json.dumps(files[ROUTES_FILE])
    assert ('"prefix_rewrite": "/vllm/"' in text) == secure
    whole = subprocess.run(
        [str(PROGRAM), "--mode", "validate", "-c", str(tmp_path / "whole.json")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert whole.returncode == 0, whole.stderr[-2000:]


@pytest.mark.parametrize("other", ["https://b:8000", "http://b:8000/v2"])
def test_replicas_that_envoy_cannot_serve_are_named(tmp_path: Path, other: str) -> None:
    urls = {"s1": "http://a:8000", "s2": other}
    with pytest.raises(ConfigError, match=re.escape(other)) as refused:
        rendered(tmp_path, urls, Share(OLD, 100, ("s1", "s2")))
    assert refused.value.diagnostics[0].code == "FC6050"


def test_a_version_without_requests_is_not_there_and_one_with_all_needs_no_hash(
    tmp_path: Path,
) -> None:
    servers = {"s1": "http://a:1"}
    alone = rendered(tmp_path, servers, Share(NEW, 0, ("s1",)), Share(OLD, 100, ("s1",)))
    text = json.dumps(alone[ROUTES_FILE])
    assert (OLD in text, NEW in text, "hash_policy" in text) == (True, False, False)
    split = rendered(tmp_path, servers, Share(NEW, 1, ("s1",)), Share(OLD, 99, ("s1",)))
    text = json.dumps(split[ROUTES_FILE])
    assert (OLD in text, NEW in text, '"use_hash_policy": true' in text) == (True, True, True)


@given(st.from_regex(r"[a-z0-9_-]{1,24}", fullmatch=True) | st.sampled_from(KEPT))
def test_the_expression_of_other_headers_is_the_complement_of_the_kept_ones(name: str) -> None:
    assert (re.fullmatch(others(), name) is None) == (name in KEPT)


def test_names_that_begin_or_end_like_kept_ones_are_others() -> None:
    for kept in KEPT:
        assert re.fullmatch(others(), kept[:-1])
        assert re.fullmatch(others(), f"{kept}s")
        assert not re.fullmatch(others(), f":{kept}")  # HTTP/2's own stay
