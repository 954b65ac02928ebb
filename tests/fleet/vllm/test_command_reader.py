"""A server read back from its command line, for all flags that the planner and people choose."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.names import Stamps, digest_stamp, launch_stamp
from fleet.resources import ServerFlags
from fleet.vllm import LaunchProgram, command_line, read_back

EXTRAS = (
    ("api-server-count", "1"), ("data-parallel-size", "2"), ("distributed-executor-backend", "mp"),
    ("enforce-eager", ""), ("lora-target-modules", "q_proj v_proj"), ("seed", "7"),
)  # fmt: skip
FLAGS = ServerFlags("models/base/tiny", "tiny", 3, 16, 12, kv_cache_bytes=64 << 20)
PROGRAM = LaunchProgram("py", "h", 8100)

all_flags = st.builds(
    ServerFlags,
    model=st.sampled_from(["models/base/tiny", "/models/my llama", "meta/llama"]),
    served_name=st.sampled_from(["tiny", "llama3_8b"]),
    max_loras=st.integers(1, 64),
    max_lora_rank=st.sampled_from([8, 16, 320]),
    max_cpu_loras=st.integers(1, 2048),
    dtype=st.sampled_from(["auto", "bfloat16"]),
    max_model_len=st.none() | st.integers(1, 1 << 20),
    tensor_parallel=st.sampled_from([1, 2, 8]),
    memory_share=st.none() | st.sampled_from([0.92, 0.46, 0.307, 0.9]),
    kv_cache_bytes=st.none() | st.integers(1, 1 << 36),
    extra=st.lists(st.sampled_from(EXTRAS), unique=True).map(lambda found: tuple(sorted(found))),
)


@given(
    flags=all_flags, kind=st.sampled_from(["", "cpu"]), folder=st.sampled_from(["/srv/fleet/", ""])
)
def test_the_flags_of_a_command_line_are_read_back(
    flags: ServerFlags, kind: str, folder: str
) -> None:
    # What people declare of the flags that fleetctl adds itself is all of them or none.
    if kind and {name for name, _ in flags.extra} & {"enforce-eager", "api-server-count"}:
        flags = replace(flags, extra=())
    model = flags.model if flags.model.startswith("/") else f"{folder}{flags.model}"
    words = command_line(
        replace(flags, model=model),
        LaunchProgram("py", "127.0.0.1", 8100, kind),
        Stamps(flags.digest, "ab12" * 3),
    )
    read = read_back(words, "/srv/fleet")
    if read is None:  # a mixture of both: such a server is not recognised, and never wrongly
        assert {name for name, _ in flags.extra} & {
            "enforce-eager", "distributed-executor-backend", "api-server-count",
            "data-parallel-size",
        }  # fmt: skip
        return
    assert (read.flags, read.base, read.port) == (flags, flags.served_name, 8100)
    assert read.stamps == Stamps(flags.digest, "ab12" * 3, has_resolver=False)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("",),
        ("python", "-m", "http.server", "8100"),
        ("py", "--served-model-name", "tiny"),
        ("py", "--served-model-name", "tiny", "fleetctl-0123456789ab"),
        command_line(FLAGS, PROGRAM, Stamps("0123456789ab")),  # the stamp of other flags
        (*command_line(FLAGS, PROGRAM, Stamps(FLAGS.digest)), "--max-loras", "9"),
        (*command_line(FLAGS, PROGRAM, Stamps(FLAGS.digest)), "--max-loras", "many"),
        (*command_line(FLAGS, PROGRAM, Stamps(FLAGS.digest)), "--port", "no"),
    ],
)
def test_a_line_that_its_stamp_does_not_prove_is_no_server(words: tuple[str, ...]) -> None:
    assert read_back(words, "/srv/fleet") is None


def test_stamps_are_whole_served_names() -> None:
    names = ["tiny", digest_stamp("0123456789ab"), launch_stamp("ab12ab12ab12")]
    assert Stamps.among(names) == Stamps("0123456789ab", "ab12ab12ab12", has_resolver=False)
    assert Stamps.among(["fleetctl-resolver"]) == Stamps(None, "", has_resolver=True)
    assert Stamps.among([digest_stamp("2.0123456789ab")]).digest == "2.0123456789ab"
    others = ["fleetctl-launch-ab12", "xfleetctl-0123456789ab", "fleetctl-launch-AB12ab12ab12"]
    assert Stamps.among(others) == Stamps(None, "", has_resolver=False)
