"""A sink of notices that appends each notice to a file."""

from runtime.notify.delivery import Notice


async def append(notice: Notice) -> str:
    """Append the text of a notice to the file of its address."""
    with (notice.root / notice.to).open("a", encoding="utf-8") as file:
        file.write(f"{notice.body['text']}\n")
    return ""
