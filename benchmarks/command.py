"""How experiment scripts are called: a docstring is the help, our errors are said in words."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from rlrf4rec.errors import RLRF4RecError


def call(script: Callable[[list[str]], int | None], *, least: int) -> NoReturn:
    """End the process with what ``script`` makes of the command line; 2 where that cannot be.

    Args:
        script: of the command line's arguments; None is as good as 0.
        least: arguments without which there is nothing to do.
    """
    sys.exit(status(script, sys.argv[1:], least=least))


def status(
    script: Callable[[list[str]], int | None], arguments: Sequence[str], *, least: int
) -> int:
    """What `call` ends with."""
    module = inspect.getmodule(script)
    if "--help" in arguments or len(arguments) < least:
        asked = "--help" in arguments
        print(module and module.__doc__, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    try:
        return script(list(arguments)) or 0
    except RLRF4RecError as error:
        name = Path(module.__file__ or "").name if module else ""
        print(f"{name}: {error}", file=sys.stderr)
        return 2
