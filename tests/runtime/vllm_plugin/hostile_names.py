"""Names that must not resolve beside an adapter called `NAME`, in a folder that holds others."""

from pathlib import Path

NAME = "mine-test-tiny-v1.0.0"


def hostile_names(folder: Path) -> tuple[str, ...]:
    """Return the names; `folder` holds an adapter that is not recorded."""
    stem, other = folder.parent, folder.name
    return (
        "",
        " ",
        ".",
        "..",
        "/",
        "./",
        f"./{NAME}",
        f"{NAME}/",
        f"{NAME}/.",
        f"/{NAME}",
        f"//{NAME}",
        f"{NAME}/../{NAME}",
        f"../{NAME}",
        f"../{other}",
        f"../../{other}",
        f"../store/{other}",
        f"..\\{other}",
        f"..%2f{other}",
        f"%2e%2e%2f{other}",
        other,
        str(folder),
        f"{folder}/",
        f"{stem}/./{other}",
        f"{stem}/../{stem.name}/{other}",
        f"file://{folder}",
        f"~/{other}",
        f"$HOME/{other}",
        NAME.upper(),
        NAME.capitalize(),
        f" {NAME}",
        f"{NAME} ",
        f"{NAME}\n",
        f"{NAME}\0",
        f"{NAME}\0/../{other}",
        "\0",
        NAME.replace("-", "%2d"),
        NAME.replace("-", "‐"),  # a hyphen of another alphabet  # noqa: RUF001
        NAME.replace("i", "і"),  # a Cyrillic i  # noqa: RUF001
        f"{NAME}\u200b",
        f"\u202e{NAME[::-1]}",
        "\N{FULLWIDTH FULL STOP}" * 2 + f"/{other}",
        NAME.removesuffix(".0"),
        f"{NAME}.0",
        f"{NAME}*",
        f"{NAME[:4]}*",
        "*",
        "path",
        "digest",
        "__class__",
        "None",
        "null",
        "constructor",
        "{}",
        '"',
        "org/model",
        "x" * 300,
        f"{NAME}{'x' * 5000}",
        "../" * 2000 + other,
    )
