"""Check the config, and the files that it is read from, before any job starts."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from pipeline.errors import UserError

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")

_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    # The commands of the jobs take no 200.0 for an integer.
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int),
)

_KINDS = {
    "object": "a mapping of keys",
    "array": "a list",
    "string": "text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "null": "null",
}
"""Types of JSON schema in the words of YAML."""


def check_file(path: str | Path) -> None:
    """Refuse a config file in which Snakemake would overlook a mistake, or say less about it.

    Raises
    ------
    UserError
        One line that names the file: it can't be read, is no UTF-8 or no YAML, has no keys, or has a key twice (of
        which Snakemake takes the last).

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "mine.yaml"
    >>> _ = path.write_text("training: {tokens: 1000}\\ntraining: {seed: 5}\\n")
    >>> check_file(path)
    Traceback (most recent call last):
    ...
    pipeline.errors.UserError: ...mine.yaml: line 2: the key training is there twice
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}: line {line}: byte {error.object[error.start]:#x} is not UTF-8; save it as UTF-8"
        ) from error
    try:
        root = yaml.compose(text.expandtabs() if Path(path).suffix == ".json" else text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        tab = " (indent with spaces, not with tabs)" if "\\t" in (error.problem or "") else ""
        raise UserError(f"{path}: {line}not YAML: {error.problem or error.context}{tab}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {error}") from error
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}: has no keys; write such as training: {{seed: 1}}")
    for line, key in _repeated(root):
        raise UserError(f"{path}: line {line}: the key {key} is there twice")


def _repeated(node: yaml.Node) -> Iterator[tuple[int, str]]:
    """Yield line and path of each key that a mapping has already."""
    waiting, seen = [(node, "")], set()
    while waiting:
        node, where = waiting.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [(inner, f"{where}{number}/") for number, inner in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            keys = set()
            for key, inner in node.value:
                if (key.tag, str(key.value)) in keys and not str(key.value).startswith("?"):  # ?else of a YTE template
                    yield key.start_mark.line + 1, f"{where}{key.value}"
                keys.add((key.tag, str(key.value)))
                waiting.append((inner, f"{where}{key.value}/"))


def config_files(folder: str | Path, preset: Any, others: Iterable[str | Path] = ()) -> tuple[Path, Path]:
    """Return config.yaml and the file of the preset that lies over it; all files are checked.

    Parameters
    ----------
    folder
        Where config.yaml and presets/ are.
    preset
        Name of the preset; None is the one that config.yaml names.
    others
        Files that are to lie over both.

    Raises
    ------
    UserError
        When there is no such preset, with those that there are; when its file names another one; and as `check_file`.
    """
    main = Path(folder) / "config.yaml"
    for path in (main, *others):
        check_file(path)
    if preset is None:
        preset = _read(main).get("preset")
    presets = {path.stem: path for path in sorted((Path(folder) / "presets").glob("*.yaml"))}
    if preset not in list(presets):  # it may be anything
        raise UserError(f"config: preset: {_shown(preset)} is not one of {', '.join(presets)} (the files of presets/)")
    path = presets[preset]
    check_file(path)
    if (named := _read(path).get("preset", preset)) != preset:
        raise UserError(f"{path}: preset: {_shown(named)} is not the file's own name, {preset}")
    return main, path


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8-sig"))


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
    errors = list(_Validator(schema).iter_errors(dict(config)))
    if errors:
        raise UserError(_line(jsonschema.exceptions.best_match(errors), schema))
    return dict(config)


def _check_values(value: Any, where: str) -> None:
    """Refuse what YAML can say and a config can't mean: numbers that are not finite, keys that are no text."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                why = "a date" if isinstance(key, datetime.date) else "a number"
                if isinstance(key, bool):
                    why = "true or false (so are on, off, yes and no)"
                raise UserError(f"{where}: the key {_shown(key)} is read as {why}, not as text: put it in quotes")
            _check_values(inner, f"{where}: {key}" if where == "config" else f"{where}/{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check_values(inner, f"{where}/{number}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: {value} is not a finite number")


def _line(error: jsonschema.ValidationError, root: Mapping[str, Any]) -> str:
    """Say in one line where the config is wrong and what is allowed there."""
    value, path = error.instance, "/".join(str(part) for part in error.absolute_path)
    where = f"config: {path}" if path else "config"
    match error.validator:
        case "additionalProperties":
            allowed = sorted(error.schema.get("properties", {}))
            unknown = sorted(set(value) - set(allowed))[0]
            return f"config: {f'{path}/' if path else ''}{unknown} is not a key; allowed: {', '.join(allowed)}"
        case "required":
            missing = next(key for key in error.validator_value if key not in value)
            return f"{where}: the key {missing} is missing"
        case "uniqueItems":
            twice = next(item for number, item in enumerate(value) if item in value[:number])
            return f"{where}: {_shown(twice)} is named twice"
    schema = _resolved(error.schema, root)
    return f"{where}: {_shown(value)} is not allowed: {_allowed(schema, root)}{_hint(value, schema)}"


def _shown(value: Any) -> str:
    """Return a value as YAML has it, a long one cut."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value) if isinstance(value, datetime.date) else repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _hint(value: Any, schema: Mapping[str, Any]) -> str:
    """Say how to write what was probably meant."""
    kind = schema.get("type")
    if isinstance(value, str) and kind in ("integer", "number", ["number", "null"]) and _NUMBER.fullmatch(value):
        number = float(value)
        written = str(int(number)) if number.is_integer() else f"{number:.6e}" if "e" in repr(number) else repr(number)
        return f" (it is read as text: write {written})"
    if isinstance(value, float) and kind == "integer" and value.is_integer():
        return f" (write {int(value)})"
    if isinstance(value, (int, float, datetime.date)) and kind == "string":
        return " (put it in quotes)"
    if isinstance(value, (str, Mapping)) and kind == "array":
        return f" (write [{value}])" if isinstance(value, str) else " (start each with a -)"
    return ""


def _resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    while isinstance(schema, Mapping) and "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    return schema


def _allowed(schema: Any, root: Mapping[str, Any]) -> str:
    """Put what a schema allows in words."""
    schema = _resolved(schema, root)
    if not isinstance(schema, Mapping):
        return "nothing goes here"
    if "title" in schema:
        return schema["title"]
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    kind = schema.get("type", "something else")
    words = [" or ".join(_KINDS.get(name, name) for name in ([kind] if isinstance(kind, str) else kind))]
    names = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}
    words += [f"{word} {schema[key]}" for key, word in names.items() if key in schema]
    if kind == "string" and schema.get("minLength"):
        words.append("that is not empty")
    if "items" in schema:
        words.append(
            f"{'with at least one item, ' if schema.get('minItems') else ''}each {_allowed(schema['items'], root)}"
        )
    return " ".join(words)
