"""Tells whether a folder is on a network file system, where SQLite's locks do not hold."""

import re
from pathlib import Path
from typing import Final

MOUNTS: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = re.compile(
    r"nfs4?|cifs|smb3?|smbfs|9p|afs|ceph|glusterfs|lustre|gpfs|beegfs|ocfs2|gfs2|davfs"
    r"|fuse\.(sshfs|glusterfs|ceph|s3fs|rclone|juicefs|davfs|gcsfuse)"
)
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


def network_filesystem(folder: Path, mounts: Path = MOUNTS) -> str:
    """Return the type of the network file system that holds a folder; empty: it is local."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:  # a system without it
        return ""
    real, longest, kind = folder.resolve(), -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = Path(_ESCAPE.sub(lambda found: chr(int(found[1], 8)), left.split(" ")[4]))
        if real.is_relative_to(point) and len(point.parts) >= longest:
            longest, kind = len(point.parts), right.split(" ")[0]
    return kind if _NETWORK.fullmatch(kind) else ""
