"""Check the config against its closed schema, before any job starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from pipeline.errors import UserError


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
    schema = yaml.safe_load(Path(schema_path).read_text(encoding="utf-8"))
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(dict(config)))
    if errors:
        raise UserError(_line(jsonschema.exceptions.best_match(errors)))
    return dict(config)


def _line(error: jsonschema.ValidationError) -> str:
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
    if isinstance(value, str) and "number" in str(error.validator_value) + str(error.schema):
        try:
            hint = f" (YAML reads it as text: write {float(value):.6e})"
        except ValueError:
            hint = ""
    return f"{where}: {value!r} is not allowed: {_allowed(error.schema)}{hint}"


def _allowed(schema: Any) -> str:
    """Put what a schema allows in words."""
    if not isinstance(schema, Mapping):
        return "nothing goes here"
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_allowed(option) for option in schema[key])
    words = [str(schema.get("type", "something else"))]
    names = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "pattern": "matching"}
    words += [f"{word} {schema[key]}" for key, word in names.items() if key in schema]
    if "items" in schema:
        words.append(f"of {_allowed(schema['items'])}")
    return " ".join(words)
