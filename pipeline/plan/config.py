"""Check the config against its closed schema, before any job starts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from pipeline.errors import UserError

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def check_config(config: Mapping[str, Any], schema_path: str | Path) -> dict[str, Any]:
    """Return the config as a plain dict when the schema allows it.

    Raises
    ------
    UserError
        One line that names the key and what is allowed: an unknown key, a wrong type, a value out of range.

    Examples
    --------
    >>> import tempfile
    >>> schema = Path(tempfile.mkdtemp()) / "schema.yaml"
    >>> _ = schema.write_text("{type: object, additionalProperties: false, properties: {seed: {type: integer}}}")
    >>> check_config({"sede": 1}, schema)
    Traceback (most recent call last):
    ...
    pipeline.errors.UserError: config: sede is not a key; allowed: seed
    """
    _check_values(config, "config")
    schema = yaml.safe_load(Path(schema_path).read_text(encoding="utf-8"))
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(dict(config)))
    if errors:
        raise UserError(_line(jsonschema.exceptions.best_match(errors), schema))
    return dict(config)


def _check_values(value: Any, where: str) -> None:
    """Refuse what YAML can say and a config can't mean: numbers that are not finite, keys that are no text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise UserError(f"{where}: the key {key} is read as {type(key).__name__}, not as text: write '{key}'")
            _check_values(inner, f"{where}: {key}" if where == "config" else f"{where}/{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check_values(inner, f"{where}/{number}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: {value} is not a finite number")


def _line(error: jsonschema.ValidationError, root: Mapping[str, Any]) -> str:
    """Say in one line where the config is wrong and what is allowed there."""
    where = "config: " + "/".join(str(part) for part in error.absolute_path)
    if error.validator == "additionalProperties":
        allowed = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(error.instance) - set(allowed))[0]
        at = "/".join([*map(str, error.absolute_path), unknown])
        return f"config: {at} is not a key; allowed: {', '.join(allowed)}"
    if error.validator == "required":
        missing = sorted(set(error.validator_value) - set(error.instance))[0]
        return f"{where}: the key {missing} is missing".replace(": :", ":")
    value = error.instance
    hint = ""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        hint = f" (YAML reads {value} as text: write {float(value):.6e})"
    return f"{where}: {value!r} is not allowed: {_allowed(error.schema, root)}{hint}"


def _allowed(schema: Any, root: Mapping[str, Any]) -> str:
    """Put what a schema allows in words."""
    if not isinstance(schema, Mapping):
        return "nothing goes here"
    if "$ref" in schema:
        return _allowed(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    if "pattern" in schema and "title" in schema:
        return schema["title"]
    if "const" in schema:
        return str(schema["const"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_allowed(option, root) for option in schema[key])
    kind = schema.get("type", "something else")
    words = [" or ".join(kind) if isinstance(kind, list) else kind]
    names = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "pattern": "matching"}
    words += [f"{word} {schema[key]}" for key, word in names.items() if key in schema]
    if "items" in schema:
        words.append(f"of {_allowed(schema['items'], root)}")
    return " ".join(words)
