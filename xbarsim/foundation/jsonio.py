"""JSON from files that others may have written, of a bounded depth."""

from __future__ import annotations

import json
from typing import Any

from xbarsim.foundation.validation import FileFormatError, InputError, check_depth, shown

__all__ = ["parse_json", "parse_object"]


def parse_json(text: str | bytes, *, source: str) -> Any:
    """The value of a JSON text; `source` is what messages call it.

    Raises
    ------
    FileFormatError
        If it is not JSON, nests more than 32 levels deep, or has an integer of thousands of digits.
    """
    try:
        value = json.loads(text)
        check_depth(source, value)
    except InputError as error:
        raise FileFormatError(str(error)) from error
    except RecursionError:
        raise FileFormatError(f"{source} is not valid JSON: it nests too deep") from None
    except (ValueError, TypeError) as error:
        raise FileFormatError(f"{source} is not valid JSON: {error}") from error
    return value


def parse_object(text: str | bytes, *, source: str) -> dict[str, Any]:
    """The table of a JSON text, by names.

    Raises
    ------
    FileFormatError
        If :func:`parse_json` does, or it is another value than a table.
    """
    value = parse_json(text, source=source)
    if not isinstance(value, dict):
        raise FileFormatError(f"{source} must be a table, got {shown(value)}")
    return value
