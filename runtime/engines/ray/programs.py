"""Holds the program that jobs run inside a cluster: starts and stops actors, imports Ray there."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fleet.environment import ALLOWED
from fleet.names import RESOLVER_STAMP
from fleet.vllm import RESOLVER
from runtime.engines.launch_records import MARK, LaunchRecord

RESULT: Final = "fleetctl-result:"
"""Beginning of the line that a job ends with; JSON follows."""
_KEEPS_MARK: Final = {"SPT_NOENV": "1"}
"""Variable by which the title of a worker leaves the mark in the environment readable."""
_PROGRAM: Final = """\
import ctypes, fcntl, glob, json, os, signal, subprocess, sys, threading, time
import ray

class Server:
    def __init__(self, its):
        libc, parent = ctypes.CDLL(None), os.getpid()
        def die_with_actor():
            libc.prctl(1, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
        self.launch, self.stopping, self.began = its["launch"], False, time.monotonic()
        self.mark = its["mark"]
        sweep(self.mark, self.launch)
        kept = {name: value for name, value in os.environ.items() if name in its["allowed"]
                or name.startswith(("CUDA_", "HIP_", "LC_", "NCCL_", "NVIDIA_", "ROCR_"))}
        if its["key_file"]:
            kept["VLLM_API_KEY"] = open(its["key_file"]).read().strip()
        words, given, log = its["arguments"], its["environment"], its["log"]
        around = os.path.dirname(os.path.dirname(words[0]))
        if not glob.glob(around + "/lib*/python*/*-packages/" + its["plugin"] + "-*.dist-info"):
            words = [word for word in words if word != its["stamp"]]
            given = {**given, "VLLM_PLUGINS": ""}
        if os.path.exists(log) and os.path.getsize(log) > its["largest_log"]:
            os.replace(log, log + ".1")
        with open(log, "ab") as out:
            self.child = subprocess.Popen(
                words, env={**kept, **given}, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, preexec_fn=die_with_actor, start_new_session=True)
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        self.child.wait()
        sweep(self.mark, self.launch)  # workers outlive the process that started them
        time.sleep(max(0, self.began + 3 - time.monotonic()))  # restarts are bounded
        if not self.stopping:
            os._exit(1)  # Ray starts the actor again, on its node

    def started(self):
        return self.launch

    def stop(self):
        self.stopping = True
        self.child.terminate()
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.child.kill()
        sweep(self.mark, self.launch)

def sweep(mark, launch):
    wanted = (mark + "=" + launch).encode()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open("/proc/" + pid + "/environ", "rb") as variables:
                if wanted in variables.read().split(b"\\0"):
                    os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass

def start(its):
    try:
        return {"launch": ray.get(ray.get_actor(its["name"]).started.remote(), timeout=20)}
    except Exception:
        pass
    actor = ray.remote(Server).options(
        name=its["name"], lifetime="detached", get_if_exists=True, max_restarts=-1, num_cpus=0,
        num_gpus=its["gpus"], resources={"node:" + its["node"]: 0.001},
        runtime_env={"env_vars": its["variables"]}).remote(its)
    try:
        return {"launch": ray.get(actor.started.remote(), timeout=60)}
    except ray.exceptions.GetTimeoutError:
        ray.kill(actor, no_restart=True)
        return {"error": "Ray found no room for it within 60 s"}
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return {"error": lines[-1][:400]}

def stop(its):
    try:
        actor = ray.get_actor(its["name"])
    except ValueError:
        return {}
    if its["asks"]:
        try:
            ray.get(actor.stop.remote(), timeout=40)
        except Exception:
            pass
    ray.kill(actor, no_restart=True)
    return {}

def run_on_node(its):
    with open(its["lock"], "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # what the script starts holds it too
        done = subprocess.run(
            ["timeout", "--kill-after=5", str(its["limit_s"]), "sh", its["script"]],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, pass_fds=[lock.fileno()])
    return {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}

def fetch(its):
    pinned = ray.remote(run_on_node).options(
        num_cpus=0, max_retries=0, resources={"node:" + its["node"]: 0.001})
    try:
        return ray.get(pinned.remote(its), timeout=its["limit_s"] + 60)
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        return {"error": (lines or ["no answer of the node in time"])[-1][:400]}

task = json.loads(sys.argv[1])
ray.init(address="auto", namespace=task["namespace"], log_to_driver=False)
do = {"start": start, "stop": stop, "fetch": fetch}[task["do"]]
found = [do(its) for its in task["tasks"]]
print("\\n" + task["result"] + json.dumps(found), flush=True)
"""


def entrypoint(do: str, namespace: str, tasks: Sequence[Mapping[str, Any]]) -> str:
    """Return the command line of a job with tasks of a kind: `start`, `stop` or `fetch`."""
    task = {"do": do, "namespace": namespace, "result": RESULT, "tasks": [*tasks]}
    return shlex.join(("python", "-c", _PROGRAM, json.dumps(task)))


def start_task(
    record: LaunchRecord,
    node: str,
    gpus: float,
    environment: Mapping[str, str],
    variables: Mapping[str, str],
    log: str,
    key_file: str,
) -> dict[str, Any]:
    """Return the task of a server's start: an actor on a node, with a process.

    `variables` are the actor's own, which the cluster shows; `environment` is the server's.
    """
    return {
        "name": record.name, "launch": record.launch, "mark": MARK, "node": node, "gpus": gpus,
        "arguments": [*record.arguments],
        "environment": {**environment, MARK: record.launch, **_KEEPS_MARK},
        "variables": dict(variables), "allowed": sorted(ALLOWED), "log": log,
        "largest_log": 64 << 20, "key_file": key_file, "plugin": RESOLVER, "stamp": RESOLVER_STAMP,
    }  # fmt: skip


def fetch_task(node: str, script: str, lock: str, limit_s: int) -> dict[str, Any]:
    """Return the task of a fetch: a shell script that a node runs, alone with the lock.

    The script is a file of the shared folder: the cluster shows the words of its jobs.
    """
    return {"node": node, "script": script, "lock": lock, "limit_s": limit_s}
