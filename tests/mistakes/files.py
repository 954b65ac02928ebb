"""Mistakes in the files of a fleet."""

from tests.mistakes.case import ACME, FLEET, GATED, GOLDEN, LAPTOP, Mistake

VALIDATE = "fleetctl validate"
_ATTACHED = f"{LAPTOP}\n  rented:\n    engine: attach\n    servers: {{a: {{url: URL, base: tiny, max_loras: 16, max_lora_rank: 16}}}}"  # noqa: E501


def _file(
    name: str, edit: tuple[str, str, str], wrong: str, where: str, why: str, remedy: str
) -> Mistake:
    return Mistake(name, VALIDATE, 1, wrong, where, why, remedy, (edit,))


MISTAKES = [
    _file(
        "a version as a number", (ACME, '"2.1.0"', "2.10"),
        "Version is not quoted", "clients/acme.yaml:10:18",
        "YAML reads it as the number 2.1", 'Write `"2.10.0"`',
    ),
    _file(
        "`latest` as a version", (ACME, '"2.1.0"', "latest"),
        "Invalid version", "clients/acme.yaml:10:18",
        "not three numbers such as `1.2.3`", 'Write it as `"1.2.3"`',
    ),
    _file(
        "a version that was never added", (ACME, '"2.1.0"', '"2.5.0"'),
        "Version is not in the lock", "clients/acme.yaml:10:18",
        "its bytes are not pinned", "fleetctl adapter add PATH --as acme-support-tiny-v2.5.0",
    ),
    _file(
        "a tab", (ACME, "    tier:", "\ttier:"),
        "Tab in the indentation", "clients/acme.yaml:3:1",
        "YAML forbids tabs before a key", "Use two spaces a level",
    ),
    _file(
        "a client declared twice", ("clients/copy.yaml", "", "clients:\n  acme: {}\n"),
        "Key given twice", "first given at clients/copy.yaml:2:3".replace("copy", "acme"),
        "neither of them wins", "Delete one, or move both parts into one file",
    ),
    _file(
        "a key of the API in the file", (ACME, "file:.fleetctl/keys/acme-prod", "sk-live-7f3a"),
        "Secret written into the declarations", "clients/acme.yaml:6:13",
        "ends up in version control, in plans and in logs", "Write where it is kept, `env:NAME`",
    ),
    _file(
        "a password in an address", (FLEET, LAPTOP, _ATTACHED.replace("URL",
        '"http://me:pa55@10.0.0.5:8000"')),
        "Invalid address", "fleet.yaml:32:24",
        "is not the URL of a server", 'Write scheme, host and port: `"http://10.0.0.5:8000"`',
    ),
    _file(
        "an address that ends in `/v1`", (FLEET, LAPTOP, _ATTACHED.replace("URL",
        '"http://10.0.0.5:8000/v1"')),
        "Invalid address", "fleet.yaml:32:24",
        "which fleetctl adds itself", "Write `http://10.0.0.5:8000`",
    ),
    _file(
        "shares of a rollout as if they were summed", (FLEET, "[10%, 50%, 100%]", "[10%, 91%]"),
        "Invalid stages of a rollout", "fleet.yaml:35:13",
        "so a version could never take over", "`weights: [10%, 50%, 100%]`",
    ),
    _file(
        "memory without a unit", (FLEET, "memory: 6GiB", "memory: 6"),
        "Invalid size", "fleet.yaml:29:33",
        "has no unit", "Write a number with a unit: `80GiB`",
    ),
    _file(
        "a price with a comma", (FLEET, "price_per_hour: 0", "price_per_hour: 2,50"),
        "Key is not text", "fleet.yaml:29:57",
        "YAML reads the key `50`", "A number has a point, not a comma: `2.50`",
    ),
    _file(
        "a price with its currency", (FLEET, "price_per_hour: 0", "price_per_hour: 2.50 EUR"),
        "Wrong kind of value", "fleet.yaml:29:55",
        "must be a number, not `2.50 EUR`", "Correct the value",
    ),
    _file(
        "a time zone that does not exist", (ACME, "Europe/Paris", "Europe/Pari"),
        "Unknown time zone", "clients/acme.yaml:19:58",
        "is not in the time zone database", "Did you mean `Europe/Paris`?",
    ),
    _file(
        "a field of another tool", (ACME, "golden:", "golden_set:"),
        "Unknown key", "clients/acme.yaml:11:9",
        "takes no `golden_set`", "Did you mean `golden`?",
    ),
    _file(
        "a name with a typo", (ACME, "base: tiny", "base: tny"),
        "Unknown base", "clients/acme.yaml:9:15",
        "No base is called `tny`", "Did you mean `tiny`?",
    ),
    _file(
        "a variable between braces", (FLEET, "memory: 6GiB", "memory: ${env:GPU_MEMORY}"),
        "YAML syntax error", "fleet.yaml:29:34",
        "while parsing a flow mapping", 'quote a variable: `"${env:NAME}"`',
    ),
    _file(
        "a flag of vLLM with a typo", (FLEET, "kv_cache: 64MiB",
        "flags: {gpu-memory-utilisation: 0.9}"),
        "Flag that vLLM does not know", "fleet.yaml:21:13",
        "vLLM 0.32 has no flag of this name", "Did you mean `gpu-memory-utilization`?",
    ),
    _file(
        "adapters of a rank above the base's limit", (FLEET, "kv_cache: 64MiB", "max_lora_rank: 1"),
        "Adapter rank above the server's limit", "clients/acme.yaml:10:18",
        "A server refuses an adapter above its limit", "Raise `max_lora_rank` of `tiny`",
    ),
    _file(
        "a gate that nobody declared", (FLEET, "gates: []", "gates: [accuracy]"),
        "Unknown gate", "fleet.yaml:35:71",
        "No gate is called `accuracy`",
        "Declare it: `gates: {accuracy: {metric: accuracy_drop, max: 3pp}}`",
    ),
    _file(
        "a golden set in the wrong place", (ACME, "golden/support.jsonl", "support.jsonl"),
        "Golden set not found", "clients/acme.yaml:11:17",
        "versions are compared on it", "Add the file, or correct the path",
    ),
    _file(
        "a broken line in a golden set", (GOLDEN, '{"id": "support-shipping-000", ',
        '{"id": "support-shipping-000" '),
        "Golden line is not JSON", "golden/support.jsonl:1:31",
        "The item cannot be asked or scored", "Correct the line",
    ),
    Mistake(
        "a gate on a golden set, without a golden set", VALIDATE, 0,
        "Gate that can pass no version", "clients/birch.yaml:8:7",
        "no version of `birch-units` can pass it", "Add `golden: golden/FILE.jsonl`",
        (*GATED, ("clients/birch.yaml", "        golden:", "        x-golden:")),
    ),
]  # fmt: skip
