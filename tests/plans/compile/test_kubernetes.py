"""Kubernetes objects of servers and routes, by the published schemas of their kinds."""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from fleet.errors import ConfigError
from fleet.hardware import DeviceSpec, HostSpec
from fleet.names import dns_label, from_dns_label
from fleet.resources import Route, Server, ServerFlags, Share
from fleet.vllm import POD_ADAPTERS, POD_PORT, POD_STORE, Pod, launch_of
from plans.compile import gateway_api, kubernetes
from plans.compile.kubernetes import SERVER_LABEL

SCHEMAS = Path(__file__).parents[2] / "data" / "schemas"
RELEASE = "1.37"
LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
FLAGS = ServerFlags(
    "models/llama", "llama3_8b", 8, 32, 24, extra=(("generation-config", "$(HOME)"),)
)
NEW, OLD = "acme-support-llama3_8b-v2.0.0", "acme-support-llama3_8b-v1.0.0"
VALIDATE_ROUTES = """\
import { readFileSync } from "node:fs";
import { HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute";
for (const route of JSON.parse(readFileSync(0, "utf8"))) new HTTPRoute(route).validate();
"""


def pod(host: str = "rack_a", kind: str = "h100_80g", devices: int = 1) -> Pod:
    names = tuple(f"gpu{number}" for number in range(devices))
    server = Server(
        f"llama3_8b-{host}-gpu0", "llama3_8b", host, names, POD_PORT, FLAGS.digest, FLAGS
    )
    specs = tuple(DeviceSpec(name, kind, 1, 0, 8000) for name in names)
    launch = launch_of(
        server,
        HostSpec(host, "local", devices=specs),
        python="python3",
        model=f"{POD_STORE}/bases/llama3_8b",
        adapters=POD_ADAPTERS,
    )
    assert launch is not None
    return Pod(launch, "registry.example/vllm:0.32", kind, {NEW: "ab" * 32})


def written(documents: Sequence[kubernetes.Document]) -> list[dict[str, Any]]:
    """Return the documents as a reader of the file sees them."""
    return list(yaml.safe_load_all(kubernetes.as_yaml(documents)))


def by_kind(documents: Sequence[Mapping[str, Any]], kind: str) -> list[Any]:
    return [document for document in documents if document["kind"] == kind]


def servers() -> list[dict[str, Any]]:
    pods = [pod(), pod("rack_b", "mi300x_192g", 2), pod("desk", "cpu")]
    files = {"fleetctl_resolver/resolver.py": "a = 1\n\nb = '$(X)'\n"}
    return written(kubernetes.objects("demo", pods, files, 16 * 2**30))


def test_the_objects_of_servers_are_those_of_the_published_schemas() -> None:
    documents = servers()
    for document in documents:
        kubernetes_validate.validate(document, RELEASE, strict=True)
    shared = ["PersistentVolumeClaim", "ConfigMap", "NetworkPolicy"]
    each = ["ConfigMap", "Deployment", "Service"]
    assert [document["kind"] for document in documents] == shared + 3 * each
    broken = by_kind(documents, "Deployment")[0]
    broken["spec"]["template"]["spec"]["nodeselector"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, RELEASE, strict=True)


def test_a_pod_gets_its_devices_its_command_line_and_its_adapters() -> None:
    documents = servers()
    claim, plugin, policy, *_ = documents
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert plugin["data"] == {"fleetctl_resolver..resolver.py": "a = 1\n\nb = '$(X)'\n"}
    containers = {
        document["metadata"]["name"]: document["spec"]["template"]["spec"]["containers"][0]
        for document in by_kind(documents, "Deployment")
    }
    assert {
        name: container.get("resources", {}).get("limits") for name, container in containers.items()
    } == {
        "llama3--8b-rack--a-gpu0": {"nvidia.com/gpu": "1"},
        "llama3--8b-rack--b-gpu0": {"amd.com/gpu": "2"},
        "llama3--8b-desk-gpu0": None,
    }
    container = containers["llama3--8b-rack--a-gpu0"]
    assert container["command"][-1] == "python3"
    words = container["args"]
    assert words[words.index("--model") + 1] == f"{POD_STORE}/bases/llama3_8b"
    assert (
        words[words.index("--generation-config") + 1] == "$$(HOME)"
    )  # which the kubelet reads as $(HOME)
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert variables["FLEETCTL_ADAPTERS"] == POD_ADAPTERS
    assert "CUDA_VISIBLE_DEVICES" not in variables
    entries = json.loads(by_kind(documents, "ConfigMap")[1]["data"]["adapters.json"])
    assert entries == {NEW: {"path": f"{POD_STORE}/{'ab' * 32}", "digest": "ab" * 32}}
    labels = by_kind(documents, "Deployment")[1]["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    service = by_kind(documents, "Service")[1]["spec"]["selector"]
    assert service.items() <= labels.items()
    assert service[SERVER_LABEL] == "llama3_8b-rack_a-gpu0"


def routes() -> dict[str, Route]:
    a, b, c = "llama3_8b-rack_a-gpu0", "llama3_8b-rack_b-gpu0", "llama3_8b-desk-gpu0"
    shares = (Share(NEW, 10, (a, b)), Share(OLD, 90, (a, b, c)), Share("gone", 0, (a,)))
    return {"acme-support": Route("acme-support", shares, "s")}


def parts(documents: Sequence[Mapping[str, Any]], alias: str) -> dict[tuple[str, str], Fraction]:
    """Return the part of an alias's requests by server and version, as a cluster divides them."""
    (route,) = (
        found for found in by_kind(documents, "HTTPRoute") if found["metadata"]["name"] == alias
    )
    (rule,) = route["spec"]["rules"]
    backends = {backend["name"]: backend["weight"] for backend in rule["backendRefs"]}
    found = {}
    for rewrite in by_kind(documents, "InferenceModelRewrite"):
        pool = rewrite["spec"]["poolRef"]["name"]
        for row in rewrite["spec"]["rules"]:
            if row["matches"][0]["model"]["value"] == alias:
                weights = {target["modelRewrite"]: target["weight"] for target in row["targets"]}
                for version, weight in weights.items():
                    reaches = Fraction(backends[pool], sum(backends.values()))
                    found[pool, version] = reaches * Fraction(weight, sum(weights.values()))
    return found


@pytest.mark.needs("javascript")
def test_a_version_gets_its_share_spread_evenly_over_its_servers(
    javascript: Path, tmp_path: Path
) -> None:
    documents = written(
        gateway_api.objects(
            "demo",
            routes(),
            [s for share in routes()["acme-support"].shares for s in share.servers],
        )
    )
    a, b, c = "llama3--8b-rack--a-gpu0", "llama3--8b-rack--b-gpu0", "llama3--8b-desk-gpu0"
    assert parts(documents, "acme-support") == {
        (a, NEW): Fraction(5, 100), (b, NEW): Fraction(5, 100),
        (a, OLD): Fraction(30, 100), (b, OLD): Fraction(30, 100), (c, OLD): Fraction(30, 100),
    }  # fmt: skip
    for name, kind in (
        ("inferencepools", "InferencePool"),
        ("inferencemodelrewrites", "InferenceModelRewrite"),
    ):
        definition = yaml.safe_load((SCHEMAS / f"{name}.crd.yaml").read_text("utf-8"))["spec"]
        (version,) = definition["versions"]
        found = by_kind(documents, kind)
        assert len(found) == 3
        for document in found:
            assert document["apiVersion"] == f"{definition['group']}/{version['name']}"
            Draft202012Validator(closed(version["schema"]["openAPIV3Schema"])).validate(document)
    (tmp_path / "node_modules").symlink_to(javascript)
    (tmp_path / "routes.mjs").write_text(VALIDATE_ROUTES, encoding="utf-8")
    found = by_kind(documents, "HTTPRoute")
    assert validated(tmp_path, found) == ""
    found[0]["spec"]["rules"][0]["backendRefs"][0]["weight"] = -1
    assert "must be >= 0" in validated(tmp_path, found)


def closed(schema: Any) -> Any:
    """Return a schema that takes no field which it does not name, as a cluster's strict check."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if (
        "properties" in found
        and isinstance(found.get("type"), str)
        and "additionalProperties" not in found
    ):
        found["additionalProperties"] = False
    return found


def validated(folder: Path, documents: Sequence[Mapping[str, Any]]) -> str:
    """Return what the validation by the models of Node.js says; empty: nothing is wrong."""
    done = subprocess.run(
        ["node", "routes.mjs"],
        input=json.dumps(documents),
        cwd=folder,
        text=True,
        capture_output=True,
        check=False,
    )
    return done.stderr


def test_names_are_labels_and_read_back() -> None:
    ids = ("a", "b1", "a_b", "llama3_8b", "x_y_z", "a1_1")
    names = {"-".join(parts) for number in (1, 2, 3) for parts in product(ids, repeat=number)}
    labels = {dns_label(name) for name in names}
    assert len(labels) == len(names)
    assert {from_dns_label(label) for label in labels} == names
    assert all(LABEL.fullmatch(label) for label in labels)


def test_a_name_that_kubernetes_does_not_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="Kubernetes takes 63") as refused:
        kubernetes.objects("demo", [pod("rack" * 12)], {}, 0)
    assert refused.value.diagnostics[0].code == "FC1297"
