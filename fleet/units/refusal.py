"""What the scalar types share: their errors, how values are shown, the schema of texts."""

from typing import Any

from pydantic import WithJsonSchema
from pydantic_core import PydanticCustomError


def wrong(code: str, detail: str, hint: str = "") -> PydanticCustomError:
    """Return the error of a validator; `code` and texts arrive in the diagnostic."""
    sentence = detail[:1].upper() + detail[1:]
    return PydanticCustomError(code, "{detail}", {"detail": sentence, "hint": hint})


def shown(value: Any) -> str:
    """Return a value as YAML shows it, shortened."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case dict():
            return "a map"
        case list():
            return "a list"
        case _:
            text = str(value)
            return f"`{text}`" if len(text) <= 40 else f"`{text[:37]}…`"  # noqa: PLR2004 (a line's worth)


def text_schema(pattern: str, **more: Any) -> WithJsonSchema:
    """Return the JSON Schema of a text that matches `pattern` as a whole."""
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$", **more})
