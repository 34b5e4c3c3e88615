"""The parts of a report that `lwasr bench compare` reads, and the check that a file has them."""

from __future__ import annotations

from typing import Any

NUMBER = "a number"
STRING = "a string"
LARGEST = 1e300  # JSON holds NaN, infinity and integers of any size, which cannot be printed


class Optional:
    """A field that may be null."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema


_MEASUREMENT = {
    "mode": STRING,
    "hop_ms": Optional(NUMBER),
    "right_context_ms": Optional(NUMBER),
    "threads": NUMBER,
    "rtf": {"median": NUMBER},
    "cpu_s_per_audio_s": NUMBER,
    "hop_latency_ms": Optional({"p95": NUMBER}),
    "memory": {"peak": Optional(NUMBER)},
    "accuracy": Optional({"wer": NUMBER}),
}
REPORT = {
    "created": STRING,
    "board": {"name": STRING, "processor": STRING},
    "audio": {"source": STRING},
    "models": [
        {
            "name": STRING,
            "precision": STRING,
            "bytes": NUMBER,
            "startup": {"total": {"median": NUMBER}},
            "measurements": [_MEASUREMENT],
        }
    ],
}


def fault_of(value: Any, schema: Any, where: str = "") -> str | None:
    """The first difference of a JSON value from a schema, as in "FIELD must be a number"; None without one.

    Args:
        schema: NUMBER, STRING, Optional; a dict of the keys that must be there; or a list of one schema for all items.
        where: name of the value, for the message.
    """
    if isinstance(schema, Optional):
        return None if value is None else fault_of(value, schema.schema, where)
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return f"{where or 'it'} must be an object"
        missing = next((key for key in schema if key not in value), None)
        if missing is not None:
            return f"{f'{where}.{missing}'.lstrip('.')} is missing"
        items = [(f"{where}.{key}".lstrip("."), value[key], of_key) for key, of_key in schema.items()]
    elif isinstance(schema, list):
        if not isinstance(value, list):
            return f"{where} must be a list"
        items = [(f"{where}[{index}]", item, schema[0]) for index, item in enumerate(value)]
    elif schema == STRING:
        return None if isinstance(value, str) else f"{where} must be {STRING}"
    else:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return None if is_number and -LARGEST < value < LARGEST else f"{where} must be {NUMBER}"
    return next((fault for name, item, of_item in items if (fault := fault_of(item, of_item, name))), None)
