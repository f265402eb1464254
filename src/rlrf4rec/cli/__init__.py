"""The command line, one file a command. Heavy imports wait inside the commands: help is quick."""

from __future__ import annotations

from rlrf4rec.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """The entry point ``rlrf4rec``."""
    app(prog_name="rlrf4rec")
