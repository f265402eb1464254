"""Write configuration.md from the settings: python docs/reference/make_configuration.py"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlrf4rec.config import Config

PAGE = Path(__file__).parent / "configuration.md"
INTRO = """# Settings

Made from `src/rlrf4rec/config/` by `python docs/reference/make_configuration.py`; do not edit.
A configuration is a YAML file with these sections; everything has a default. An unknown key, a
wrong type or a value out of range stops the run, and all of them are named together. On the command
line: `--set section.key=value`.

"paper" is arXiv 2410.05939, "KAR" arXiv 2306.10933, "ours" our own choice.
"""


def page() -> str:
    """The whole page as Markdown."""
    rows = ["| setting | default | range | |", "|---|---|---|---|"]
    parts = [INTRO, "\n".join([*rows, *_rows(Config, "", nested=False)])]
    for name, section in Config.model_fields.items():
        kind = section.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            parts.append(f"## `{name}`\n\n{(kind.__doc__ or '').strip()}\n")
            parts.append("\n".join([*rows, *_rows(kind, f"{name}.", nested=True)]))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _rows(kind: type[BaseModel], prefix: str, *, nested: bool) -> list[str]:
    lines = []
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            if nested:
                lines += _rows(inner, f"{prefix}{name}.", nested=True)
            continue
        default = field.get_default(call_default_factory=True)
        cells = [
            f"`{prefix}{name}`",
            f"`{_plain(default)}`",
            _range(field),
            field.description or "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _plain(value: object) -> str:
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _range(field: FieldInfo) -> str:
    choices = [
        str(choice)
        for part in (field.annotation, *get_args(field.annotation))
        for choice in get_args(part)
        if isinstance(choice, str)
    ]
    if choices:
        return ", ".join(dict.fromkeys(choices))
    signs = {"gt": "> ", "ge": "≥ ", "lt": "< ", "le": "≤ "}
    metadata = [*field.metadata]
    for part in get_args(field.annotation):
        metadata += getattr(part, "__metadata__", ())
    bounds = []
    for item in metadata:
        for inner in getattr(item, "metadata", None) or [item]:
            bounds += [
                f"{sign}{getattr(inner, name)}"
                for name, sign in signs.items()
                if getattr(inner, name, None) is not None
            ]
    return ", ".join(bounds)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
