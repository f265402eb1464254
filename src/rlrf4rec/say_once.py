"""What a log says once, however often it comes up: that a slower path is taken, and why."""

from __future__ import annotations

import functools
import logging

_log = logging.getLogger(__name__)


@functools.cache
def say_once(message: str, level: int = logging.WARNING) -> None:
    """Log a message unless this process has logged it already."""
    _log.log(level, message)
