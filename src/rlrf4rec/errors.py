"""Errors that a user can act on: what was expected, what was found, what to do."""

from __future__ import annotations

import errno
from functools import partial

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""System errors of a disk, quota or file that has no room left."""


class RLRF4RecError(Exception):
    """Base of every error a user can mend. The command line prints it and exits with code 2.

    Args:
        expected: what the program needed.
        found: what it met instead (file, row, column, value).
        remedy: what the user can do about it.
    """

    def __init__(self, expected: str, *, found: str, remedy: str) -> None:
        self.expected, self.found, self.remedy = expected, found, remedy
        super().__init__(f"expected {expected}; found {found}. {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        # A worker process sends its error by pickling, which by itself would lose the keywords.
        return partial(type(self), found=self.found, remedy=self.remedy), (self.expected,)


class ConfigError(RLRF4RecError):
    """A setting is unknown, of the wrong type or out of range."""


class DataError(RLRF4RecError):
    """The interaction log or the catalogue cannot be used as it is."""


class MissingPartError(RLRF4RecError):
    """A model, a data set or an optional package is not there."""


class WorkspaceError(RLRF4RecError):
    """A run folder is locked, broken, full or of another version."""


class RequestError(RLRF4RecError):
    """A request to a finished run (rerank, infer) cannot be answered."""
