"""What the caller's environment holds reaches no server, gateway, trainer or eval program."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.environment import FORBIDDEN, inherited, read_command
from fleet.errors import EvalError, FleetError
from fleet.spec import GatewaySpec
from runtime.evals.tool_process import run_tool
from runtime.gateway.control import supervisor
from runtime.processes import environment
from runtime.training import Training, _run
from tests.attacks.conftest import call
from tests.fleet.planning.builders import adapter
from tests.ports import free_port
from tests.runtime.engines.conftest import Bench, make_bench

CANARY = "canary-0f6c1d"
SECRETS = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN",
    "OPENAI_API_KEY", "GITHUB_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "CI_JOB_TOKEN",
    "SSH_AUTH_SOCK", "KUBECONFIG", "DATABASE_URL", "PGPASSWORD", "WANDB_API_KEY", "NETRC",
    "ACME_KEY", "FLEETCTL_KEY", "FLEETCTL_SECRET", "PIP_INDEX_URL", "UV_DEFAULT_INDEX",
    "GIT_ASKPASS", "DBUS_SESSION_BUS_ADDRESS", "PS1", "OLDPWD",
    # Named as variables are that do pass.
    "VLLM_API_KEY", "NVIDIA_API_KEY", "CUDA_DOWNLOAD_TOKEN", "OMP_SECRET", "XDG_AUTH",
    "LC_PASSWORD", "HIP_CREDENTIALS", "PYTORCH_KEY_FILE",
)  # fmt: skip
CODE = (
    "LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP",
    "PYTHONINSPECT", "PYTHONBREAKPOINT", "PYTHONWARNINGS", "BASH_ENV", "ENV", "NODE_OPTIONS",
    "VLLM_PLUGINS", "VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_INSECURE_SERIALIZATION",
    "VLLM_LOGGING_CONFIG_PATH", "RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR", "GCONV_PATH",
    "LD_DEBUG_OUTPUT", "FLEETCTL_GATEWAY", "FLEETCTL_LAUNCH", "FLEETCTL_ADAPTERS",
)  # fmt: skip
NEEDED = {
    "PATH": "/bin", "HOME": "/home/ops", "LANG": "C.UTF-8", "LC_ALL": "C", "TZ": "UTC",
    "TMPDIR": "/t", "LD_LIBRARY_PATH": "/usr/local/cuda/lib64", "CUDA_VISIBLE_DEVICES": "1",
    "NVIDIA_DRIVER": "x",
    "HIP_VISIBLE_DEVICES": "0", "HF_HOME": "/models", "HF_ENDPOINT": "https://mirror.test",
    "VLLM_LOGGING_LEVEL": "DEBUG", "OMP_NUM_THREADS": "4", "https_proxy": "http://proxy.test:3128",
    "XDG_CACHE_HOME": "/c", "FLEETCTL_RUN_DIR": "/r",
}  # fmt: skip


@pytest.mark.parametrize("name", [*SECRETS, *CODE, *FORBIDDEN])
def test_what_is_no_ones_need_is_not_inherited(name: str) -> None:
    assert inherited({name: CANARY, "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize("name", NEEDED)
def test_what_programs_need_is_inherited(name: str) -> None:
    assert inherited({name: NEEDED[name]}) == {name: NEEDED[name]}


@pytest.mark.parametrize("name", ["https_proxy", "HTTP_PROXY", "ALL_PROXY", "HF_ENDPOINT"])
@pytest.mark.parametrize("user", ["ops:hunter2@", "token@", ":p@", "a:b:c@"])
def test_a_password_in_an_address_stays_here(name: str, user: str) -> None:
    assert inherited({name: f"http://{user}proxy.test:3128"}) == {}


@pytest.fixture
def caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment full of what must not leave it."""
    for name in {*SECRETS, *CODE} - {"LD_PRELOAD", "LD_AUDIT", "GCONV_PATH", "LD_DEBUG_OUTPUT"}:
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("LD_PRELOAD", "")


def leaked(pid: int) -> dict[str, str]:
    found = environment(pid)
    assert "PATH" in found  # it can be seen
    return {name: value for name, value in found.items() if CANARY in value}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = make_bench("fake", tmp_path / "bench")
    yield made
    made.run(lambda engine: engine.stop(made.server.name))


@pytest.mark.usefixtures("caller")
def test_a_server_has_nothing_of_the_callers(bench: Bench) -> None:
    bench.run(lambda engine: engine.start(bench.server))
    assert leaked(bench.record().pid) == {}


@pytest.mark.usefixtures("caller")
def test_a_server_has_what_the_operator_names_for_its_host(
    bench: Bench, trust_home: Path, project: Path
) -> None:
    assert call(project, "trust", "add", "--code", "HF_TOKEN", "--host", "laptop").code == 0
    assert (trust_home / "fleetctl" / "trust.yaml").is_file()
    bench.run(lambda engine: engine.start(bench.server))
    assert leaked(bench.record().pid) == {"HF_TOKEN": CANARY}


@pytest.mark.usefixtures("caller")
@pytest.mark.parametrize(("secret", "expected"), [("", {}), ("env:ACME_KEY", {"ACME_KEY": CANARY})])
def test_a_gateway_has_its_own_secret_at_most(
    tmp_path: Path, secret: str, expected: dict[str, str]
) -> None:
    gateway = GatewaySpec("main", f"127.0.0.1:{free_port()}", "", secret)
    found = supervisor.start(tmp_path, gateway)
    try:
        assert leaked(found.pid) == expected
    finally:
        supervisor.stop(tmp_path, "main")


SHOW = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.mark.usefixtures("caller")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], set()),
        (["env:HF_TOKEN"], {"HF_TOKEN"}),
        (["env:HF_TOKEN", "env:NETRC"], {"HF_TOKEN", "NETRC"}),
    ],
)
def test_an_eval_program_has_what_its_command_names(
    tmp_path: Path, words: list[str], expected: set[str]
) -> None:
    done = asyncio.run(run_tool([*words, sys.executable, "-c", SHOW], tmp_path))
    found = {name for name, value in json.loads(done.output).items() if CANARY in value}
    assert found == expected


def test_an_eval_program_that_prints_without_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(EvalError) as ended:
        asyncio.run(run_tool(["yes"], tmp_path))
    assert "printed more than 64 MiB" in str(ended.value)


@pytest.mark.usefixtures("caller")
@pytest.mark.parametrize(("words", "expected"), [([], set()), (["env:HF_TOKEN"], {"HF_TOKEN"})])
def test_a_trainer_has_what_its_command_names(
    tmp_path: Path, words: list[str], expected: set[str]
) -> None:
    show = SHOW.replace("{", "{{").replace("}", "}}")
    spec = adapter("acme-support-tiny-v1.0.0", retrain=(*words, sys.executable, "-c", show))
    lines: list[str] = []
    with (tmp_path / "lock").open("w+b") as lock:
        training = Training(spec.name, spec, tmp_path, tmp_path / "new", lock.fileno())
        assert asyncio.run(_run(training, lines.append)) == 0
    found = {name for name, value in json.loads(lines[0]).items() if CANARY in value}
    assert found == expected


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["env:NOT_SET_HERE", "python"], "`NOT_SET_HERE` is not set here"),
        (["env:"], "`` is not set here"),
        (["env:PATH"], "no program"),
        ([], "no program"),
    ],
)
def test_a_command_without_its_variables_or_program_is_refused(words: list[str], says: str) -> None:
    with pytest.raises(FleetError, match=says) as raised:
        read_command(words, {"PATH": "/bin"})
    assert raised.value.diagnostics[0].code == "FC1335"


def test_words_after_the_program_are_no_variables() -> None:
    program, variables = read_command(["python", "env:HF_TOKEN"], {"HF_TOKEN": CANARY})
    assert (program, variables) == (["python", "env:HF_TOKEN"], {})
