"""Mistakes at the command line, and what the machine lacks."""

from tests.mistakes.case import ACME, FLEET, GATED, LAPTOP, Mistake

APPLY = "fleetctl apply --auto --yes"
_BOX = f"{LAPTOP}\n  box:\n    engine: ssh\n    address: ann@10.0.0.5\n    devices: {{gpu0: {{kind: l4_24g, memory: 24GiB}}}}"  # noqa: E501
_DATABASE = (FLEET, "fleet: quickstart", "fleet: quickstart\nstate: {postgresql: env:FLEET_DB}")

_THREE = "".join(
    f'{{"id": "{name}", "input": "{name} is late.", "expected": "queue=shipping"}}\n'
    for name in ("tea", "tray", "lamp")
)

TYPED = [
    Mistake(
        "the wrong folder", "fleetctl -C ../downloads plan", 1,
        "No fleet here", "/home/ann/downloads` holds no `fleet.yaml",
        "fleetctl works on a folder with that file",
        "Name the project's folder with `-C DIR`",
    ),
    Mistake(
        "a folder of the project", "fleetctl -C golden plan", 1,
        "No fleet here", "`/home/ann/fleet/golden` holds no `fleet.yaml`",
        "fleetctl works on a folder with that file", "fleetctl -C /home/ann/fleet status",
    ),
    Mistake(
        "a command with a typo", "fleetctl aply", 64,
        "No such command 'aply'", "fleetctl [OPTIONS] COMMAND", "", "did you mean `apply`?",
    ),
    Mistake(
        "an option of fleetctl behind the command", "fleetctl plan --env fake", 64,
        "No such option '--env'", "fleetctl plan [OPTIONS]",
        "It goes before the command", "fleetctl --env … plan",
    ),
    Mistake(
        "an overlay that is not there", "fleetctl --env prod plan", 1,
        "Unknown environment", "`env/prod.yaml`", "There is no", "There are: fake",
    ),
    Mistake(
        "a file where the folder is read", "fleetctl validate fleet.yaml", 64,
        "unexpected extra argument (fleet.yaml)", "fleetctl validate [OPTIONS]",
        "All YAML files of a folder are read", "fleetctl -C FOLDER validate",
    ),
    Mistake(
        "apply without a plan", "fleetctl apply", 64,
        "Name a plan file", "fleetctl apply [OPTIONS] [FILE]", "",
        "(fleetctl plan --out plan.json), or pass --auto",
    ),
    Mistake(
        "apply of the declarations", "fleetctl apply fleet.yaml --yes", 1,
        "File is damaged", "`fleet.yaml`", "is not whole JSON", "fleetctl plan --out plan.json",
    ),
    Mistake(
        "a plan's id where a file belongs", "fleetctl apply 0123456789abcdef --yes", 64,
        "is a plan's id", "fleetctl apply [OPTIONS] [FILE]", "", "pass --plan-id 0123456789abcdef",
    ),
    Mistake(
        "apply in CI without `--yes`", "fleetctl apply --auto", 64,
        "Not a terminal", "fleetctl apply [OPTIONS] [FILE]", "nobody can say yes", "pass --yes",
    ),
    Mistake(
        "a key by its client's name alone", "fleetctl key create acme", 1,
        "No such key is declared", "`acme` is not declared",
        "A key is declared with its client", "Did you mean `acme/prod`?",
    ),
    Mistake(
        "an adapter's path that does not exist",
        "fleetctl adapter add runs/new --as acme-support-tiny-v2.5.0", 1,
        "No adapter here", "`runs/new` does not exist", "holds the adapter's two files",
        "Name the folder",
    ),
    Mistake(
        "a full model where an adapter belongs",
        "fleetctl adapter add models/base/tiny --as acme-support-tiny-v2.5.0", 1,
        "a full model", "`models/base/tiny`", "Servers load LoRA adapters onto a base",
        "`bases: {NAME: {model: models/base/tiny}}`",
    ),
    Mistake(
        "an adapter of another base",
        "fleetctl adapter add runs/odd --as acme-support-tiny-v2.9.0", 0,
        "It was trained on `Mistral-7B-v0.3` and is for `tiny`", "Adapter names another base",
        "no server loads it", "list `Mistral-7B-v0.3` in `known_as` of `tiny`",
    ),
]  # fmt: skip

MACHINE = [
    Mistake(
        "the port is taken", APPLY, 4,
        "A port is taken", "Something else listens on 127.0.0.1:8100",
        "It may be a server of another project", "declare another `port` for the host",
        during="another program listens on the port",
    ),
    Mistake(
        "an interpreter without vLLM", APPLY, 4,
        "its interpreter has no vLLM", "`tiny-laptop-cpu0` ended", "No module named 'vllm'",
        "Set `python` of the host to an interpreter that has vLLM",
        ((FLEET, "engine: fake", "engine: local"),),
    ),
    Mistake(
        "an interpreter that does not exist", APPLY, 4,
        "A server cannot be started", "there is no such program", "for `tiny-laptop-cpu0`",
        "Set `python` of the host to an interpreter that has vLLM",
        ((FLEET, "engine: fake", "engine: local"), (FLEET, "python: /", "python: /none/")),
    ),
    Mistake(
        "another release of vLLM", APPLY, 4,
        "its vLLM lacks flags of vLLM 0.32", "`tiny-laptop-cpu0` ended",
        "for which fleetctl is made", "fleetctl server logs tiny-laptop-cpu0",
        ((FLEET, "engine: fake", "engine: local"), (FLEET, "python: /",
        "python: old-vllm/bin/python #")),
        during="the interpreter has an old vLLM",
    ),
    Mistake(
        "a host that does not answer", "fleetctl host check box", 1,
        "Host cannot be reached by SSH", "connect to host 10.0.0.5 port 22: Connection timed out",
        "What runs there is unknown", "ssh -v ann@10.0.0.5 true",
        ((FLEET, LAPTOP, _BOX),), during="the host is off",
    ),
    Mistake(
        "a host of which nobody said that it is ours", "fleetctl host check box", 1,
        "Network host is not trusted", "`10.0.0.6:22`", "so nothing was sent there",
        "fleetctl trust add ssh://10.0.0.6:22", ((FLEET, LAPTOP, _BOX.replace("0.5", "0.6")),),
    ),
    Mistake(
        "a key that the host does not know", "fleetctl host check box", 1,
        "Permission denied (publickey)", "`ann@10.0.0.5`", "a password is never asked for",
        "ssh -o BatchMode=no ann@10.0.0.5 true",
        ((FLEET, LAPTOP, _BOX),), during="the key is not authorized",
    ),
    Mistake(
        "a database's address that is not set", "fleetctl plan", 1,
        "The home's URI cannot be read", "`env:FLEET_DB` is empty or not readable here",
        "without the ledger nothing is planned",
        "Give it as `postgresql://USER:PASSWORD@HOST:5432/DATABASE`", (_DATABASE,),
    ),
    Mistake(
        "a database that does not answer", "fleetctl plan", 1,
        "The ledger's home does not answer",
        'connection to server at "127.0.0.1", port 5432 failed',
        "A rollback works meanwhile", "See to the database, the network and the credentials",
        (_DATABASE,), during="the database is off",
    ),
    Mistake(
        "a state folder that cannot be written", f"fleetctl --state-dir /proc/fleet {APPLY[9:]}", 1,
        "A file cannot be read or written", "`/proc/fleet`", "",
        "`--state-dir DIR` before the command keeps the state elsewhere",
    ),
    Mistake(
        "a rollback before the first apply", "fleetctl rollback acme-support", 1,
        "No such alias", "`acme-support` is not in the routing table",
        "Nothing was applied from this folder", "`-C DIR` before the command names another",
    ),
]  # fmt: skip

APPLIED = [
    Mistake(
        "other bytes under the name of a version", "fleetctl plan", 1,
        "Version has other bytes than before", "clients/acme.yaml:10:18",
        "never change under its name",
        "fleetctl adapter add PATH --as acme-support-tiny-v2.1.1",
        (("fleet.lock", "f5ff379e7158af92", "933400a75c7b0d18"),),
    ),
    Mistake(
        "two applies at once", APPLY, 5,
        "bo is changing it", "The fleet is locked", "its lease", "Wait for it",
        ((ACME, '"2.1.0"', '"2.2.0"'),), during="a colleague applies",
    ),
    Mistake(
        "another plan than the reviewed one", "fleetctl apply --plan-id 0123456789abcdef --yes", 5,
        "Planning gives another plan than the reviewed one", "Plan 0123456789abcdef was reviewed",
        "the fleet or its declarations have changed since", "Have the plan of now reviewed",
        ((ACME, '"2.1.0"', '"2.2.0"'),),
    ),
    Mistake(
        "an outage that nobody approved", APPLY, 5,
        "Plan is not approved", "requests of 2 clients fail for a while (acme, birch)",
        "Nobody has approved it",
        "fleetctl approve 0123456789abcdef --accept-outage 2 --reason TEXT",
        ((FLEET, "max_model_len: 512", "max_model_len: 256"),),
    ),
    Mistake(
        "a plan that is older than the files", "fleetctl apply plan.json --yes", 5,
        "The plan is not one of this project", "they differ in the settings rollouts.careful",
        "The declarations have changed since it was made here", "fleetctl plan --out plan.json",
        ((FLEET, "bake: 24h", "bake: 12h"),), ("fleetctl plan --out plan.json",),
    ),
    Mistake(
        "a golden set of three items", "fleetctl plan", 0,
        "3 items x 1", "acme-support accuracy", "an unchanged version gets PASS 0 %",
        "To be surer: 700 more items",
        (
            *GATED, (ACME, '"2.1.0"', '"2.2.0"'), ("golden/three.jsonl", "", _THREE),
            (ACME, "golden/support.jsonl", "golden/three.jsonl"),
        ),
    ),
    Mistake(
        "a rollback of a client", "fleetctl rollback acme", 1,
        "No such alias", "`acme` is not in the routing table", "which has 3 aliases",
        "Those of `acme`: acme-support, acme-triage",
    ),
    Mistake(
        "a rollback without an earlier version", "fleetctl rollback acme-support", 1,
        "No earlier version is resident", "`acme-support` is answered by 2.1.0",
        "the oldest that is loaded", "Declare an earlier version and apply",
    ),
    Mistake(
        "an approval where no rollout waits", "fleetctl rollout approve acme-support", 1,
        "The rollout is complete", "2.1.0 answers all requests of `acme-support`",
        "there is no stage to approve", "fleetctl rollback acme-support",
    ),
    Mistake(
        "the log of a server that does not exist", "fleetctl server logs tiny-laptop", 1,
        "No such server was started here", "There is no log at .fleetctl/servers/tiny-laptop/log",
        "", "fleetctl server list",
    ),
]  # fmt: skip
