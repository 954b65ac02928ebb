"""Makes keys, and signs folders with the real library."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, signing


def make_key(folder: Path, name: str) -> Path:
    """Write `NAME.pem` and `NAME.pub`; return the private key."""
    folder.mkdir(exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private


def sign(folder: Path, key: Path, *ignored: str, shards: bool = False) -> None:
    """Sign all files of a folder but those ignored, as `model_signing sign key` does."""
    signature = folder / "model.sig"
    make_config: Any = hashing.Config  # its types are left out
    make_signer: Any = signing.Config
    config = make_config()
    if shards:
        config.use_shard_serialization()
    config.set_ignored_paths(paths=[signature, *(folder / name for name in ignored)])
    signer = make_signer().use_elliptic_key_signer(private_key=key)
    signer.set_hashing_config(config).sign(folder, signature)
