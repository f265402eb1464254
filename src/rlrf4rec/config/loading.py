"""From a YAML file to a checked configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rlrf4rec.config.whole import Config
from rlrf4rec.errors import ConfigError


def load_config(path: Path | str, overrides: list[str] | None = None) -> Config:
    """Read a YAML file; ``section.key=value`` overrides win over it.

    Relative paths that the file names (data, a template, an LLM, an encoder) are taken from its own
    folder, those of an override from the working directory.

    Raises:
        ConfigError: unreadable file or wrong settings; all wrong settings are named together.
    """
    path = Path(path)
    raw = read_yaml(path, "a readable configuration file", example="configs/demo.yaml")
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ConfigError(
            "sections such as 'data:' and 'lists:' at the top of the file",
            found=f"{path}: {type(raw).__name__}",
            remedy="See configs/demo.yaml.",
        )
    _resolve(raw, path.parent)
    for override in overrides or []:
        _apply_override(raw, override)
    _resolve(raw, Path())
    return parse_config(raw, origin=str(path))


def read_yaml(path: Path, expected: str, *, example: str) -> Any:  # whatever the file holds
    """A YAML file's content.

    Raises:
        ConfigError: it cannot be read (``expected`` says what it should be, ``example`` names one
            that is), or is not YAML.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            expected,
            found=f"{path} ({error.strerror})",
            remedy=f"Pass the path of a YAML file, for example {example}.",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            "valid YAML", found=f"{path}: {error}", remedy="Mend the file's syntax."
        ) from error


def parse_yaml(text: str) -> Any:  # whatever it holds
    """Plain YAML, every key once.

    Raises:
        yaml.YAMLError: it is not, or a key stands twice in its mapping.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        _refuse_repeated_keys(node)
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_repeated_keys(node: yaml.Node | None) -> None:
    """Raise YAML's own error at the first key that its mapping has already: one would be lost."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"{key.value!r} stands here twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
            _refuse_repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(value)


def parse_config(raw: dict[str, Any], origin: str = "configuration") -> Config:
    """Check plain settings (as YAML gives them, hence `Any`) and make a `Config`.

    Raises:
        ConfigError: naming every wrong setting.
    """
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'configuration'}: {problem['msg']}"
            f" (got {str(problem.get('input'))[:80]!r})"
            for problem in error.errors()
        )
        raise ConfigError(
            "known settings within their ranges",
            found=f"{origin}: {problems}",
            remedy="docs/reference/configuration.md lists every setting.",
        ) from error


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, sign, value = override.partition("=")
    *sections, last = key.strip().split(".")
    if not sign or not last:
        raise ConfigError(
            "section.key=value",
            found=repr(override),
            remedy="For example --set generation.n_samples=4.",
        )
    target = raw
    for section in sections:
        # A section without a setting, "generation:", is null.
        if target.get(section) is None:
            target[section] = {}
        target = target[section]
        if not isinstance(target, dict):
            raise ConfigError(
                f"a section named {section!r}", found=repr(override), remedy="Check the key."
            )
    try:
        target[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(
            "a YAML value after '='", found=repr(override), remedy="Quote the value."
        ) from error


def _resolve(raw: dict[str, Any], folder: Path) -> None:
    """Make what is relative to the folder whole; what is whole stays."""
    _resolve_paths(raw, folder)
    _resolve_names(raw, folder)


def _resolve_paths(raw: dict[str, Any], folder: Path) -> None:
    data = raw.get("data")
    if isinstance(data, dict):
        for key in ("path", "interactions", "items", "users"):
            if isinstance(data.get(key), str):
                data[key] = _absolute(folder, data[key])


def _resolve_names(raw: dict[str, Any], folder: Path) -> None:
    """What is named by a path, by its whole path: a run's folder is read from anywhere."""
    named = (
        ("prompt", "template", _is_yaml),
        ("model", "name", _is_folder),
        ("knowledge", "encoder", _is_folder),
    )
    for section, key, is_path in named:
        settings = raw.get(section)
        name = settings.get(key) if isinstance(settings, dict) else None
        if isinstance(name, str) and is_path(name, folder):
            raw[section][key] = _absolute(folder, name)


def _is_yaml(name: str, folder: Path) -> bool:
    """A template that is no shipped one's name."""
    return name.endswith((".yaml", ".yml"))


def _is_folder(name: str, folder: Path) -> bool:
    """A folder that is there or, by how it is written, should be; else a packaged or hub model."""
    if name.startswith((".", "~")):
        return True
    return bool(name) and "\0" not in name and (folder / name).is_dir()


def _absolute(folder: Path, name: str) -> str:
    try:
        return str((folder / Path(name).expanduser()).resolve())
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            "a path", found=f"{name!r} ({error})", remedy="Write the whole path."
        ) from error
