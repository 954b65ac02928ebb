#!/bin/bash
# What a newcomer runs on a bare machine: a Debian root with five packages, the checkout's commit in it.
#
#   bare.sh run [PARTS]       README's commands as `user` (no root, no sudo), then as `root`, then .ci/run;
#                             both PARTS unless named; exit 1 when a command ends as it should not
#   bare.sh exec PART CMD...  run CMD in the root of a part that ran, in its clone
#   bare.sh wipe              remove all roots and caches
#
# All of it lies in $BARE. A part has its own mounts, processes and users, which end with it, also when it
# is interrupted; the network is this machine's, for packages come through it. Handed in from this machine:
# where packages come from (apt's site and its settings of transfers, pip's index and wheels, npm's registry,
# certificates of authorities), never a package. Where no wheel of torch in these places is for the root's Python,
# an interpreter of this machine that a wheel is for is seen in the part `root`, and makes vLLM's environment
# alone. $BARE/cache keeps what uv downloaded for the next run.
# PYTEST_ADDOPTS goes in too, for a look at some of the tests.
set -euo pipefail

BARE=${BARE:-/var/tmp/fleetctl-bare}
RELEASE=${RELEASE:-trixie}
PACKAGES=git,make,python3,python3-venv,ca-certificates
CHECKOUT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SITE=$(apt-get indextargets --format '$(SITE)' | grep -m 1 '/debian$' || true)
LOGS=$BARE/logs
red=0

die() { echo "bare: $*" >&2; exit 1; }

need() {
    [ "$(id -u)" = 0 ] || die "needs root (namespaces, debootstrap)."
    command -v debootstrap >/dev/null || die "missing program; apt-get install --no-install-recommends debootstrap"
    [ -n "$SITE" ] || die "apt has no Debian here."
    mkdir -p "$LOGS" "$BARE/cache"
}

make_base() {
    [ -e "$BARE/$RELEASE/.made" ] && return
    echo "progress: debootstrap of $RELEASE (two minutes, once)"
    rm -rf --one-file-system "$BARE/$RELEASE"
    unshare --mount debootstrap --variant=minbase --include="$PACKAGES" "$RELEASE" "$BARE/$RELEASE" "$SITE" \
        >"$LOGS/debootstrap" 2>&1 || die "debootstrap failed, see $LOGS/debootstrap"
    touch "$BARE/$RELEASE/.made"
}

home_of() { if [ "$1" = root ]; then echo /root; else echo /home/newcomer; fi; }

pip_setting() {   # what pip is told here; nothing where it is told nothing
    python3 -m pip config list 2>/dev/null | sed -nE "s/^(:env:|global|install)\.$1='(.*)'\$/\2/p" | tail -n 1
}

wheels_of_torch() {   # the releases of Python that they are for, such as `311`
    local place
    for place in $(pip_setting find-links); do
        find "${place#file://}" -maxdepth 1 -name 'torch-*' 2>/dev/null | sed -nE 's/.*-cp(3[0-9]+)-.*/\1/p'
    done
}

python_for_vllm() {   # an interpreter of this machine for vLLM's environment; nothing where Debian's serves
    local own
    own=$(chroot "$BARE/$RELEASE" python3 -c 'import sys; print("%d%d" % sys.version_info[:2])')
    [ -n "$(wheels_of_torch)" ] && ! grep -qx "$own" <<<"$(wheels_of_torch)" || return 0
    python3 -c 'import sys; print("%d%d" % sys.version_info[:2], sys.base_prefix + "/bin/python%d.%d" % sys.version_info[:2])' |
        grep -wf <(wheels_of_torch) | cut -d ' ' -f 2
}

write_settings() {   # of root $1: where packages come from
    local root=$1 name value
    apt-config dump | grep '^Acquire::' | grep -v ' "";$' >"$root/etc/apt/apt.conf.d/99site" || true
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    [ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    {
        for name in index-url extra-index-url find-links cert trusted-host; do
            value=$(pip_setting "$name")
            [ -z "$value" ] || echo "PIP_$(tr a-z- A-Z_ <<<"$name")=$value"
        done
        value=$(npm config get registry 2>/dev/null || true)
        [ -z "$value" ] || echo "npm_config_registry=$value"
        env | grep -iE '^((https?|no)_proxy|UV_(DEFAULT_)?INDEX(_URL)?|SSL_CERT_FILE|NODE_EXTRA_CA_CERTS|PYTEST_ADDOPTS|WORKERS)=' || true
    } >"$root/.settings"
}

make_root() {   # for part $1
    local root=$BARE/$1 home
    home=$(home_of "$1")
    mkdir -p "$BARE/old"
    [ ! -e "$root" ] || mv "$root" "$(mktemp -d "$BARE/old/XXXXXX")"
    nice rm -rf --one-file-system "$BARE/old" &   # takes minutes on a busy machine
    cp -a "$BARE/$RELEASE" "$root"
    write_settings "$root"
    [ "$1" = root ] || useradd --root "$root" --create-home --shell /bin/bash newcomer
    git clone --quiet --no-hardlinks "$CHECKOUT" "$root$home/fleetctl"
    mkdir -p "$root$home/.cache/uv" "$BARE/cache/$1"
    chown -R --reference="$root$home" "$root$home/.cache" "$root$home/fleetctl" "$BARE/cache/$1"
}

# The first process of new namespaces: it makes the part's root the only one that is seen.
ENTER='
root=$1 home=$2 cache=$3 places=$4
shift 4
mount --bind "$root" "$root"
mount --bind "$cache" "$root$home/.cache/uv"
for place in $places; do
    case $place in /*) mkdir -p "$root$place"; mount --bind -o ro "$place" "$root$place" ;; esac
done
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir "$root/run/lock"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0 1 2; do ln -s "/proc/self/fd/$number" "$root/dev/$(echo stdin stdout stderr | cut -d" " -f$((number + 1)))"; done
hostname bare
cd "$root"
mkdir -p .outside
pivot_root . .outside
cd /
umount --lazy /.outside
cd "$home/fleetctl"
"$@"
'

within() {   # become a command in the root of part $1
    local part=$1 home path=/usr/local/bin:/usr/bin:/bin user=newcomer become=()
    shift
    home=$(home_of "$part")
    if [ "$part" = root ]; then path=/usr/local/sbin:$path:/usr/sbin:/sbin user=root; fi
    [ "$part" = root ] || become=(setpriv --reuid 1000 --regid 1000 --clear-groups --no-new-privs)
    local settings=()
    mapfile -t settings <"$BARE/$part/.settings"
    exec unshare --mount --pid --ipc --uts --fork --kill-child --propagation private \
        bash -euc "$ENTER" bare "$BARE/$part" "$home" "$BARE/cache/$part" "$(pip_setting find-links) $(cat "$BARE/$part/.places" 2>/dev/null)" \
        "${become[@]}" env -i HOME="$home" USER="$user" LOGNAME="$user" SHELL=/bin/bash PATH="$path" \
        LANG=C.UTF-8 TERM=dumb "${settings[@]}" "$@" </dev/null
}

watched() {   # run `within`, and say now and then how far it is; its output goes to file $1
    local log=$1 pid began=$SECONDS
    shift
    within "$@" >"$log" 2>&1 &
    pid=$!   # of `unshare`, which takes all processes of the part with it
    trap 'kill -KILL $pid 2>/dev/null; wait $pid 2>/dev/null || true' EXIT
    trap 'exit 130' INT TERM HUP
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        [ $(((SECONDS - began) % 60)) != 59 ] || echo "progress: $(((SECONDS - began) / 60 + 1)) min: $(tail -n 1 "$log" | cut -c 1-150)"
    done
    trap - EXIT INT TERM HUP
    wait "$pid"
}

# $(check PART ENDS WORDS COMMAND...): the command ends with 0 or not, as ENDS says (`well` or `refused`),
# and the lines that WORDS (an extended regular expression) are in are printed.
check() {
    local part=$1 ends=$2 words=$3 code=0 log began=$SECONDS verdict
    shift 3
    log="$LOGS/$part-$(tr -cs 'a-zA-Z0-9\n' - <<<"$*")"
    echo "progress: $part: $*: tail -f $log"
    watched "$log" "$part" "$@" || code=$?
    if [ "$ends" = well ]; then [ "$code" = 0 ] && verdict=ok || verdict=RED
    else [ "$code" != 0 ] && [ "$(grep -c '^Error' "$log")" = 1 ] && grep -qE "$words" "$log" && verdict='ok, refused as it should be' || verdict=RED
    fi
    case $verdict in RED) red=1 ;; esac
    printf '\n%s$ %s\nexit code %s after %s min: %s\n' "$part" "$*" "$code" "$(((SECONDS - began + 30) / 60))" "$verdict"
    if [ "$verdict" = RED ]; then tail -n 40 "$log"
    elif [ "$ends" = refused ]; then sed -n '/^Error/,$p' "$log"
    else grep -E "$words" "$log" || tail -n 3 "$log"
    fi | cut -c 1-700
}

COUNTS='^=+ .*[0-9]+ passed.* =+$|^Tests: '

play() {   # the commands of part $1
    case $1 in
        user)
            check user refused 'apt-get install libnuma1' make demo
            check user well "$COUNTS" make test
            ;;
        root)
            check root well '  in all$' make demo SYSTEM_PACKAGES=1
            check root well "$COUNTS" .ci/run
            ;;
    esac
}

run() {
    need
    make_base
    local python part
    for part in "$@"; do [[ $part =~ ^(user|root)$ ]] || die "no part of this name: \`$part\`; there are user and root."; done
    python=$(python_for_vllm)
    echo "Commit: $(git -C "$CHECKOUT" rev-parse --short HEAD), what is committed alone."
    echo "Debian $(cat "$BARE/$RELEASE/etc/debian_version") with ${PACKAGES//,/ }; $(chroot "$BARE/$RELEASE" python3 --version)."
    echo "Processor: $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores; instruction sets: $(
        grep -m 1 '^flags' /proc/cpuinfo | grep -oE '\b(avx2|avx512f|avx512_vnni|avx512_bf16|amx_[a-z0-9]+)\b' | paste -sd ' ')."
    [ -z "${PYTEST_ADDOPTS:-}" ] || echo "PYTEST_ADDOPTS=$PYTEST_ADDOPTS"
    [ -z "$python" ] || echo "vLLM's environment is made by $("$python" --version) of this machine: torch for CPUs has no wheel here for Debian's."
    for part in "$@"; do
        make_root "$part"
        if [ "$part" = root ] && [ -n "$python" ]; then
            echo "VLLM_PYTHON=$python" >>"$BARE/root/.settings"
            echo "$(dirname "$(dirname "$python")")" >"$BARE/root/.places"
        fi
        play "$part"
    done
    exit "$red"
}

case ${1:-} in
    run) shift; [ $# != 0 ] || set -- user root; run "$@" ;;
    exec) need; shift; within "$@" ;;
    wipe) rm -rf --one-file-system "$BARE" ;;
    *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0" >&2; exit 64 ;;
esac
