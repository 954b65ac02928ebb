#!/bin/bash
# N boxes on one machine: each boots its own systemd, with sshd, its own address and its own disk.
#
#   boxes.sh up N           make what is missing and boot boxes 1..N; safe to run again
#   boxes.sh status         one line a box; exit 0 when every box answers ssh
#   boxes.sh down           power all boxes off; their disks stay
#   boxes.sh wipe           down, and forget the boxes' disks and keys (the base image stays)
#   boxes.sh exec CMD...    run CMD as the operator: where the boxes' addresses exist
#   boxes.sh ssh BOX CMD... ssh as `fleetctl`; `boxes.sh root BOX CMD...` as root
#   boxes.sh reboot BOX | off BOX | on BOX        orderly reboot | pull the plug | power on again
#   boxes.sh cut BOX | mend BOX                   unplug the box's cable | plug it in again
#   boxes.sh hole BOX | lossy BOX PERCENT         drop all packets silently | drop some at random
#
# All of it lies in its own network, mount and cgroup namespaces and in $BED: nothing outside sees
# an address, a mount or a route of it. BED (default /var/tmp/fleetctl-bed) is the folder, SHOW
# (a list of absolute paths, separated by colons) is what boxes see read-only at the same place; it
# is remembered, and a running box takes a new one at its next `off` and `on`.
set -euo pipefail

BED=${BED:-/var/tmp/fleetctl-bed}
SHOW=${SHOW-$(cat "$BED/show" 2>/dev/null || true)}
NET=10.77.0
MIRROR=${MIRROR:-$(apt-get indextargets --format '$(SITE)' 2>/dev/null | grep -m 1 '/debian$' || true)}   # as apt has it
PACKAGES=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,openssh-server,python3-minimal
PACKAGES+=,curl,iproute2,libnuma1,libgomp1,ca-certificates,rsync,polkitd,sudo,podman,uidmap
TAG=$(printf %s "$BED" | sha256sum | cut -c1-4)   # two beds on one machine do not meet
CGROUP=/sys/fs/cgroup/fleetctl-bed-$TAG
RECIPE="3 $PACKAGES"   # raise the number when prepare_base changes

die() { echo "bed: $*" >&2; exit 1; }
say() { echo "bed: $*" >&2; }

need() {
    [ "$(id -u)" = 0 ] || die "needs root (namespaces, overlayfs, debootstrap)."
    local missing=() pair
    for pair in systemd-nspawn:systemd-container debootstrap:debootstrap ssh:openssh-client \
        ip:iproute2 nft:nftables pkill:procps nsenter:util-linux flock:util-linux rsync:rsync; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    [ ${#missing[@]} = 0 ] || die "missing programs; apt-get install --no-install-recommends ${missing[*]}"
    local kind
    for kind in overlay cgroup2; do
        grep -qw "$kind" /proc/filesystems || die "this kernel has no $kind."
    done
}

# A process is `pid start-time`: a pid given to another process counts as gone, and so does a zombie.
stat_of() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 !~ /[ZX]/ { print $20 }'; }
mark() { echo "$1 $(stat_of "$1")"; }
alive() {
    local pid started
    [ -s "$1" ] && read -r pid started <"$1" && [ -n "$started" ] && [ "$(stat_of "$pid")" = "$started" ]
}
pid_of() { cut -d' ' -f1 "$1"; }
operator() { nsenter --target "$(pid_of "$BED/operator.pid")" --net --mount --ipc "$@"; }
address() { echo "$NET.$((10 + ${1#box}))"; }
boxes() { find "$BED/boxes" -mindepth 1 -maxdepth 1 -name 'box*' -printf '%f\n' 2>/dev/null | sort -V; }
known() { [[ "${1:-}" =~ ^box[0-9]+$ ]] && [ -d "$BED/boxes/$1" ] || die "no such box: \`${1:-}\`."; }

prepare_base() {   # in the folder $1
    local root=$1
    rm -f "$root"/etc/ssh/ssh_host_*
    : >"$root/etc/machine-id"
    mkdir -p "$root/var/log/journal" "$root/etc/systemd/network"   # the journal survives a reboot
    useradd --root "$root" --create-home --shell /bin/bash fleetctl
    install -d -m 755 "$root/var/lib/systemd/linger"
    touch "$root/var/lib/systemd/linger/fleetctl"                  # = loginctl enable-linger fleetctl
    systemctl --root="$root" --quiet enable systemd-networkd ssh
    systemctl --root="$root" --quiet mask console-getty.service apt-daily.timer \
        apt-daily-upgrade.timer dpkg-db-backup.timer systemd-networkd-wait-online.service
    systemctl --root="$root" --quiet set-default multi-user.target
    chroot "$root" ldconfig
    touch "$root/etc/.updated" "$root/var/.updated"
    echo "$RECIPE" >"$root/.recipe"
}

make_base() {
    [ "$(cat "$BED/base/.recipe" 2>/dev/null)" = "$RECIPE" ] && return
    [ -z "$(boxes)" ] || die "the base image's recipe changed: \`boxes.sh wipe\` first."
    say "debootstrap (about a minute, once)"
    rm -rf --one-file-system "$BED/base.new" "$BED/base"
    unshare --mount debootstrap --variant=minbase --include="$PACKAGES" trixie "$BED/base.new" "$MIRROR" \
        >"$BED/debootstrap.log" 2>&1 || die "debootstrap failed, see $BED/debootstrap.log"
    prepare_base "$BED/base.new"
    mv "$BED/base.new" "$BED/base"
}

make_operator() {   # the namespaces: a bridge that only they know, and a pure cgroup v2 tree
    alive "$BED/operator.pid" && return
    rm -f "$BED"/boxes/*/run.pid
    setsid unshare --mount --net --ipc -- sh -ec '
        ip link set lo up
        ip link add br0 type bridge
        ip address add '"$NET"'.1/24 dev br0
        ip link set br0 up
        mkdir -p /run/systemd/nspawn
        mount -t tmpfs tmpfs /run/systemd/nspawn
        umount --recursive --lazy /sys/fs/cgroup || true
        mount -t cgroup2 none /sys/fs/cgroup
        mkdir -p '"$CGROUP"'
        mount -t tmpfs tmpfs /etc/ssh/ssh_config.d   # so that plain `ssh box1` finds the boxes
        ln -s "'"$BED"'/ssh_config" /etc/ssh/ssh_config.d/boxes.conf
        touch "'"$BED"'/operator.up"
        exec sleep infinity' </dev/null >"$BED/operator.log" 2>&1 &
    local pid=$! i
    for i in $(seq 100); do [ -e "$BED/operator.up" ] && break; sleep 0.05; done
    [ -e "$BED/operator.up" ] || die "no namespaces: $(cat "$BED/operator.log")"
    rm -f "$BED/operator.up"
    mark "$pid" >"$BED/operator.pid"
}

make_box() {
    local box=$1 folder=$BED/boxes/$1 ip
    ip=$(address "$box")
    [ -e "$folder/made" ] && return
    rm -rf "$folder"
    local up=$folder/upper
    mkdir -p "$folder/work" "$folder/root" "$up"/etc/ssh "$up"/etc/systemd/network "$up"/root/.ssh \
        "$up"/home/fleetctl/.ssh "$up/etc/ssh/sshd_config.d"
    ssh-keygen -q -t ed25519 -N '' -C "$box" -f "$up/etc/ssh/ssh_host_ed25519_key"
    echo "$box" >"$up/etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$box" >"$up/etc/hosts"
    tr -d - </proc/sys/kernel/random/uuid >"$up/etc/machine-id"
    printf '[Match]\nName=host0\n[Network]\nAddress=%s/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' \
        "$ip" >"$up/etc/systemd/network/10-host0.network"
    cp "$BED/key.pub" "$up/root/.ssh/authorized_keys"
    cp "$BED/key.pub" "$up/home/fleetctl/.ssh/authorized_keys"
    chown -R "$(stat -c %u:%g "$BED/base/home/fleetctl")" "$up/home/fleetctl"
    chmod 700 "$up/root/.ssh" "$up/home/fleetctl/.ssh" "$up/home/fleetctl"
    chmod 711 "$up/root"   # what SHOW puts below it is for `fleetctl` too
    touch "$folder/made"
}

write_ssh_files() {   # host keys are known before the first connection: no trust on first use
    local box
    [ -e "$BED/key" ] || ssh-keygen -q -t ed25519 -N '' -C fleetctl-bed -f "$BED/key"
    mkdir -p -m 700 "$BED/c"
    for box in $(boxes); do
        [ -e "$BED/boxes/$box/made" ] || continue
        echo "$(address "$box") $(cut -d' ' -f1,2 "$BED/boxes/$box/upper/etc/ssh/ssh_host_ed25519_key.pub")"
    done >"$BED/known_hosts.new"
    mv "$BED/known_hosts.new" "$BED/known_hosts"
    {
        for box in $(boxes); do printf 'Host %s\n  HostName %s\n' "$box" "$(address "$box")"; done
        cat <<CONFIG
Host box*
  User fleetctl
  IdentityFile $BED/key
  IdentitiesOnly yes
  UserKnownHostsFile $BED/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  ConnectTimeout 5
  ServerAliveInterval 3
  ServerAliveCountMax 2
  ControlMaster auto
  ControlPath $BED/c/%C
  ControlPersist 60
CONFIG
    } >"$BED/ssh_config.new"
    mv "$BED/ssh_config.new" "$BED/ssh_config"
}

boot() {   # nspawn leaves with 133 when the box reboots; it is then booted again
    local box=$1 folder=$BED/boxes/$1 binds=() path
    alive "$folder/run.pid" && return
    pull "$box"   # left by a runner or an operator that died: two systemds on one disk must not be
    IFS=: read -ra paths <<<"$SHOW"
    for path in "${paths[@]}"; do
        [ -z "$path" ] || { [ -e "$path" ] || die "SHOW: no \`$path\`."; binds+=("--bind-ro=$path"); }
    done
    setsid nsenter --target "$(pid_of "$BED/operator.pid")" --net --mount --ipc bash -c '
        set -u; box=$1 folder=$2 bed=$3 tag=$4 cgroup=$5/$1; shift 5
        mkdir -p $cgroup
        echo $$ >$cgroup/cgroup.procs
        mountpoint -q $folder/root || mount -t overlay overlay \
            -o lowerdir=$bed/base,upperdir=$folder/upper,workdir=$folder/work $folder/root
        while :; do
            umount /run/systemd/nspawn/*/$box-$tag 2>/dev/null   # left by a pulled plug
            mkdir -p $cgroup/run
            (echo $BASHPID >$cgroup/run/cgroup.procs
             exec systemd-nspawn --quiet --boot --directory=$folder/root --machine=$box-$tag --hostname=$box --keep-unit \
                --register=no --link-journal=no --resolv-conf=off --timezone=off \
                --network-bridge=br0 --console=read-only --kill-signal=SIGRTMIN+4 "$@")
            [ $? = 133 ] || break
        done' run "$box" "$folder" "$BED" "$TAG" "$CGROUP" "${binds[@]}" </dev/null >>"$folder/console" 2>&1 &
    mark $! >"$folder/run.pid"
}

ask() { local box=$1; shift; operator ssh -F "$BED/ssh_config" "$box" "$@"; }
answers() { ask "$1" -o ControlMaster=no -o ControlPath=none -o ConnectTimeout=1 true 2>/dev/null </dev/null; }
await() {
    local box=$1 i
    for i in $(seq 300); do answers "$box" && return; alive "$BED/boxes/$box/run.pid" || break; sleep 0.1; done
    die "$box does not answer, see $BED/boxes/$box/console"
}

plug() {   # $1: the box's cgroup as seen from outside the namespaces; empty when it has none
    local mounted
    mounted=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
    [ -n "$mounted" ] && [ -d "$mounted/fleetctl-bed-$TAG/$1" ] && echo "$mounted/fleetctl-bed-$TAG/$1"
}

pull() {   # every process of the box at once; killing systemd-nspawn alone would leave them running
    local group i
    group=$(plug "$1") || return 0
    echo 1 >"$group/cgroup.kill"
    for i in $(seq 100); do grep -q 'populated 0' "$group/cgroup.events" && break; sleep 0.05; done
    find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
}

power_off() {   # $2: TERM asks systemd in the box to shut down, KILL pulls the plug
    local box=$1 run=$BED/boxes/$1/run.pid i
    if [ "$2" = TERM ] && alive "$run"; then
        pkill -TERM --parent "$(pid_of "$run")" --exact systemd-nspawn || true
        for i in $(seq 300); do alive "$run" || break; sleep 0.1; done
    fi
    pull "$box"
    rm -f "$run"
}

up() {
    local n=${1:-} i box
    [[ "$n" =~ ^[0-9]+$ ]] && [ "$n" -ge 1 ] && [ "$n" -le 200 ] || die "up N, 1 to 200."
    mkdir -p "$BED/boxes"
    exec 9>"$BED/lock"; flock 9
    echo "$SHOW" >"$BED/show"
    make_base 9>&-
    make_operator 9>&-
    [ -e "$BED/key" ] || ssh-keygen -q -t ed25519 -N '' -C fleetctl-bed -f "$BED/key"
    for i in $(seq "$n"); do make_box "box$i"; done
    write_ssh_files
    for i in $(seq "$n"); do boot "box$i" 9>&-; done
    for i in $(seq "$n"); do await "box$i"; done
    status
}

down() {
    [ -d "$BED" ] || return 0
    exec 9>"$BED/lock"; flock 9
    local box
    for box in $(boxes); do power_off "$box" TERM & done; wait
    if alive "$BED/operator.pid"; then
        for box in $(boxes); do operator ssh -F "$BED/ssh_config" -O exit "$box" 2>/dev/null || true; done
        kill "$(pid_of "$BED/operator.pid")"
    fi
    pull "" # the boxes' parent group
    rm -f "$BED/operator.pid"
}

status() {
    local box bad=0 state
    alive "$BED/operator.pid" || { echo "down"; return 1; }
    for box in $(boxes); do
        if ! alive "$BED/boxes/$box/run.pid"; then state=off; bad=1
        elif answers "$box"; then state=up; else state=silent; bad=1; fi
        printf '%s %s %s\n' "$box" "$(address "$box")" "$state"
    done
    return $bad
}

faults() { operator nft delete table inet "bed_$1" 2>/dev/null || true; }
hole() {   # $2: the rule's condition, empty for every packet
    faults "$1"
    operator nft -f - <<RULES
table inet bed_$1 {
  chain out { type filter hook output priority 0; ip daddr $(address "$1") ${2:-} drop; }
  chain in { type filter hook input priority 0; ip saddr $(address "$1") ${2:-} drop; }
}
RULES
}

verb=${1:-status}; shift || true
need
case $verb in
up) up "$@" ;;
down) down ;;
wipe) down; rm -rf --one-file-system "$BED/boxes" "$BED/key" "$BED/key.pub" "$BED/known_hosts" "$BED/ssh_config" "$BED/c" ;;
status) status ;;
exec) alive "$BED/operator.pid" || die "down."; operator --wdns="$PWD" "$@" ;;
ssh) known "$1"; ask "$@" ;;
root) known "$1"; box=$1; shift; operator ssh -F "$BED/ssh_config" -l root "$box" "$@" ;;
reboot) known "$1"; operator ssh -F "$BED/ssh_config" -l root "$1" systemctl reboot || true ;;
off) known "$1"; power_off "$1" KILL ;;
on) known "$1"; boot "$1"; await "$1" ;;
cut) known "$1"; operator ip link set "vb-$1-$TAG" down ;;
hole) known "$1"; hole "$1" ;;
lossy) known "$1"; hole "$1" "numgen random mod 100 < ${2:?percent}" ;;
mend) known "$1"; faults "$1"; operator ip link set "vb-$1-$TAG" up ;;
*) sed -n '2,18s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
