"""How a test calls the command line."""

from __future__ import annotations

from collections.abc import Callable

from typer.testing import CliRunner, Result  # type: ignore[attr-defined]  # re-exported

from rlrf4rec.cli import app

Call = Callable[..., Result]


def call_rlrf4rec(*arguments: object, text: str | bytes | None = None) -> Result:
    """Run ``rlrf4rec ARGUMENTS`` in this process; ``text`` is what stdin holds."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)
