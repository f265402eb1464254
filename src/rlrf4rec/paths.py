"""Where things that are fetched or converted once are kept."""

from __future__ import annotations

import os
from pathlib import Path

from rlrf4rec.errors import MissingPartError


def cache_root() -> Path:
    """The cache folder: the environment variable ``RLRF4REC_CACHE``, or ``~/.cache/rlrf4rec``.

    The folder need not exist yet.

    Raises:
        MissingPartError: neither is known, as in a container of a user without a home.
    """
    configured = os.environ.get("RLRF4REC_CACHE")
    try:
        return Path(configured).expanduser() if configured else Path.home() / ".cache" / "rlrf4rec"
    except RuntimeError as error:
        raise MissingPartError(
            "a home folder, for the cache of models",
            found=str(error),
            remedy="Name a folder in the environment variable RLRF4REC_CACHE.",
        ) from error
