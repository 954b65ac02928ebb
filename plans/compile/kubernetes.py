"""Compile Kubernetes objects of the planned servers: files that a cluster's own tools apply.

A server is a Deployment of one pod with a Service and a ConfigMap of its adapters. Its pod answers
for these by the plug-in of vLLM, so that another version needs no restart: the cluster brings the
changed ConfigMap to the running pod. Adapters and bases lie in one claim, mounted read-only.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fleet.errors import ConfigError
from fleet.hardware import is_cpu
from fleet.hosts import STOP_S, cleared_variables
from fleet.names import dns_label
from fleet.resources import Server
from fleet.vllm import POD_ADAPTERS, POD_PORT, POD_STORE, Pod
from plans.tables import listed

CLAIM = "fleetctl-store"
NODE_LABEL = "fleetctl.dev/host"
"""Label of a node with the host's name, by which a pod finds the node of the plan."""
CALLER_LABEL = "fleetctl.dev/caller"
"""Label of pods that may call the servers, such as a gateway's."""
SERVER_LABEL = "fleetctl.dev/server"
APPLIED = "# Never applied to a cluster by the makers of fleetctl: try it on one of yours first."
"""First line of the objects."""

_DRAINING = "/tmp/draining"  # noqa: S108 (in a container of its own)
_PLUGIN = "fleetctl-plugin"
_PLUGIN_FOLDER = "/opt/fleetctl"
LONGEST = 63
"""Upper bound of the characters of names and labels."""
_DRAIN_S = 60
"""Seconds between the end of new requests to a pod and SIGTERM, in which answers go on."""
_START_S = 1800
"""Upper bound of a start, which loads the base. Seconds."""
_AMD = ("mi",)
"""Beginnings of the names of AMD's kinds of devices; all other GPUs count as NVIDIA's."""
_SPARE = 1.2
"""Factor of the size of the claim: a new version lies beside the old."""
_GIB = 2**30

_READY = f"""\
import json, os, sys, urllib.request
with urllib.request.urlopen("http://127.0.0.1:{POD_PORT}/v1/models", timeout=3) as answer:
    served = {{model["id"] for model in json.load(answer)["data"]}}
sys.exit(os.path.exists("{_DRAINING}") or sys.argv[1] not in served)
"""
"""Program that fails for a pod that drains, and for a server with other flags."""

Document = Mapping[str, Any]
"""An object of Kubernetes."""


def objects(
    fleet: str, pods: Sequence[Pod], plugin: Mapping[str, str], held_bytes: int
) -> list[Document]:
    """Return the objects of a fleet: what all servers share, then those of the servers.

    `plugin`: files of the plug-in of vLLM by path in its folder. `held_bytes`: size of the adapters
    and bases that the claim holds.

    Raises:
        ConfigError: as `metadata`.
    """
    found: list[Document] = [_claim(fleet, held_bytes), _plugin(fleet, plugin), _policy(fleet)]
    for pod in sorted(pods, key=lambda pod: pod.launch.server.name):
        found += [_adapters(fleet, pod), _deployment(fleet, pod, plugin), _service(fleet, pod)]
    return found


def pod_notes(pods: Sequence[Pod]) -> tuple[str, ...]:
    """Return the steps of people beside applying the objects, and the limits of the objects."""
    bases = {pod.launch.server.base for pod in pods}
    versions = len({name for pod in pods for name in pod.adapters})
    servers = [pod.launch.server for pod in pods]
    nodes = sorted({server.host for server in servers})
    notes = [
        "never applied to a cluster by us: the files are checked by the published schemas alone",
        f"label the node of each host ({listed(nodes)}): kubectl label node NODE {NODE_LABEL}=HOST",
        (
            f"claim {CLAIM} must hold, before pods start, {versions} versions as "
            f"{POD_STORE}/DIGEST and bases as {POD_STORE}/bases/NAME: {listed(sorted(bases))}"
        ),
        (
            f"servers answer only pods with the label {CALLER_LABEL}=true, where the cluster's "
            "network keeps policies: whoever reaches a server may load adapters onto it"
        ),
        "no live engine: these servers are not seen, started, stopped or gated by fleetctl",
    ]
    if shared := _sharing(servers):
        notes.append(
            f"{listed(shared)} share a device: Kubernetes gives a device to one pod, so the others "
            "stay pending"
        )
    return tuple(notes)


def _sharing(servers: list[Server]) -> list[str]:
    used = Counter((server.host, device) for server in servers for device in server.devices)
    return sorted(
        server.name for server in servers
        if any(used[server.host, device] > 1 for device in server.devices)
    )  # fmt: skip


def as_yaml(documents: Sequence[Document]) -> str:
    """Return objects as YAML documents, texts of several lines as blocks."""
    text = yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, explicit_start=True
    )
    return f"{APPLIED}\n{text}"


def metadata(fleet: str, name: str, **more: str) -> dict[str, Any]:
    """Return the metadata of an object; `more`: further labels, such as `server`.

    Raises:
        ConfigError: FC1297, Kubernetes takes no name of this length.
    """
    if longest := next((text for text in (name, *more.values()) if len(text) > LONGEST), ""):
        detail = f"`{longest}` has {len(longest)} characters; Kubernetes takes {LONGEST}."
        raise ConfigError.of("FC1297", "Name is too long for Kubernetes", detail)
    further = {f"fleetctl.dev/{label}": value for label, value in more.items()}
    return {"name": name, "labels": {**_labels(fleet), **further}}


def _labels(fleet: str) -> dict[str, str]:
    return {"app.kubernetes.io/managed-by": "fleetctl", "fleetctl.dev/fleet": fleet}


def _claim(fleet: str, held_bytes: int) -> Document:
    size = max(1, math.ceil(held_bytes * _SPARE / _GIB))
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(fleet, CLAIM),
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": f"{size}Gi"}},
        },
    }


def _plugin(fleet: str, plugin: Mapping[str, str]) -> Document:
    data = {_key(path): text for path, text in sorted(plugin.items())}
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(fleet, _PLUGIN), "data": data,
    }  # fmt: skip


def _key(path: str) -> str:
    """Return the key of a file in a ConfigMap, which knows no folders."""
    return path.replace("/", "..")


def _policy(fleet: str) -> Document:
    """Return the policy by which pods with the label of callers alone reach the servers.

    Whoever reaches a server may load adapters onto it.
    """
    callers = {"namespaceSelector": {}, "podSelector": {"matchLabels": {CALLER_LABEL: "true"}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(fleet, "fleetctl-servers"),
        "spec": {
            "podSelector": {"matchLabels": _labels(fleet)},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [callers], "ports": [{"protocol": "TCP", "port": POD_PORT}]}],
        },
    }


def _adapters(fleet: str, pod: Pod) -> Document:
    server = pod.launch.server.name
    entries = {
        name: {"path": f"{POD_STORE}/{digest}", "digest": digest}
        for name, digest in sorted(pod.adapters.items())
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(fleet, dns_label(server), server=server),
        "data": {POD_ADAPTERS.rpartition("/")[2]: json.dumps(entries, indent=1) + "\n"},
    }


def _service(fleet: str, pod: Pod) -> Document:
    server = pod.launch.server.name
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(fleet, dns_label(server), server=server),
        "spec": {
            "clusterIP": "None",
            "selector": {"fleetctl.dev/fleet": fleet, SERVER_LABEL: server},
            "ports": [{"name": "http", "port": POD_PORT, "targetPort": "http"}],
        },
    }


def _deployment(fleet: str, pod: Pod, plugin: Mapping[str, str]) -> Document:
    server = pod.launch.server
    labels = metadata(fleet, dns_label(server.name), server=server.name)
    spec = {
        "nodeSelector": {NODE_LABEL: server.host},
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a Service called `vllm` would set variables that vLLM reads
        "terminationGracePeriodSeconds": _DRAIN_S + STOP_S,
        "containers": [_container(pod)],
        "volumes": [
            {"name": "store", "persistentVolumeClaim": {"claimName": CLAIM, "readOnly": True}},
            {"name": "adapters", "configMap": {"name": dns_label(server.name)}},
            {"name": "plugin", "configMap": {"name": _PLUGIN, "items": [
                {"key": _key(path), "path": path} for path in sorted(plugin)
            ]}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }  # fmt: skip
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": labels,
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},  # two do not fit onto the device
            "selector": {"matchLabels": {"fleetctl.dev/fleet": fleet, SERVER_LABEL: server.name}},
            "template": {"metadata": {"labels": labels["labels"]}, "spec": spec},
        },
    }


def _container(pod: Pod) -> Document:
    launch, server = pod.launch, pod.launch.server
    program, *arguments = launch.arguments
    variables = {**launch.environment, "PYTHONPATH": _PLUGIN_FOLDER}
    variables.pop("CUDA_VISIBLE_DEVICES", None)  # the cluster gives a pod its own devices
    # An empty value ends vLLM. Variables of Python and the loader belong to the image, as its code.
    cleared = [name for name in cleared_variables(variables) if name.startswith("VLLM_")]
    unset = [word for name in cleared for word in ("-u", name)]
    devices = {} if is_cpu(pod.kind) else {_resource(pod.kind): str(len(server.devices))}
    health = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10}
    ready = ["python3", "-c", _READY, f"fleetctl-{server.digest}"]
    drained = ["sh", "-c", f"touch {_DRAINING}; sleep {_DRAIN_S}"]
    return {
        "name": "vllm",
        "image": pod.image,
        "command": ["env", *unset, _word(program)],
        "args": [_word(word) for word in arguments],
        "env": [{"name": name, "value": _word(value)} for name, value in sorted(variables.items())],
        "ports": [{"name": "http", "containerPort": POD_PORT}],
        **({"resources": {"limits": devices}} if devices else {}),
        "startupProbe": {**health, "failureThreshold": _START_S // 10},
        "livenessProbe": {**health, "timeoutSeconds": 5, "failureThreshold": 6},
        "readinessProbe": {"exec": {"command": ready}, "periodSeconds": 5, "timeoutSeconds": 5},
        "lifecycle": {"preStop": {"exec": {"command": drained}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "store", "mountPath": POD_STORE, "readOnly": True},
            {"name": "adapters", "mountPath": POD_ADAPTERS.rpartition("/")[0], "readOnly": True},
            {"name": "plugin", "mountPath": _PLUGIN_FOLDER, "readOnly": True},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
        ],
    }


def _resource(kind: str) -> str:
    return "amd.com/gpu" if kind.startswith(_AMD) else "nvidia.com/gpu"


def _word(text: str) -> str:
    """Return a word that Kubernetes passes on unchanged: `$(NAME)` would become a variable."""
    return text.replace("$(", "$$(")


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
