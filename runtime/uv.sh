#!/bin/sh
# Run the uv of .venv, told what pip has been told: uv does not read pip's settings itself, and
# where packages come through a mirror those settings are often the only place that names it.
# uv's own variables win. `fleetctl vllm install` names another uv, and a Python that has pip.
set -eu
home=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
uv=${FLEETCTL_UV:-$home/.venv/bin/uv}
python=${FLEETCTL_PIP:-$home/.venv/bin/python}

# `pip config get` reads one file only; `list` merges all. PIP_USER would narrow it to one as well.
pip_setting() {
    PIP_USER=0 "$python" -m pip --disable-pip-version-check config list 2>/dev/null |
        sed -nE "s/^(global|install)\.$1='(.*)'\$/\2/p" | tail -n 1
}

if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
    UV_DEFAULT_INDEX=${PIP_INDEX_URL:-$(pip_setting index-url)}
    if [ -n "$UV_DEFAULT_INDEX" ]; then export UV_DEFAULT_INDEX; else unset UV_DEFAULT_INDEX; fi
fi
if [ -z "${SSL_CERT_FILE:-}" ]; then
    SSL_CERT_FILE=${PIP_CERT:-$(pip_setting cert)}
    if [ -n "$SSL_CERT_FILE" ]; then export SSL_CERT_FILE; else unset SSL_CERT_FILE; fi
fi

# Without compiled bytecode every start of the command line pays for compiling: 1.3 s instead of
# 0.4 s for its imports, where PYTHONDONTWRITEBYTECODE is set as in many container images.
export UV_COMPILE_BYTECODE=1
# The largest wheels are some 200 MB; uv's own 30 s without a byte are short for a slow line.
export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-300}"
# Builds take what the lock names, by hash; the path is relative, for uv reads a list with blanks.
cd "$home"
if [ -e locks/build.lock ]; then export UV_BUILD_CONSTRAINT=locks/build.lock; fi
# `--system` contradicts the `--python` that every caller here gives.
unset UV_SYSTEM_PYTHON

exec "$uv" "$@"
