"""Where things that are fetched or converted once are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """The cache folder: the environment variable ``RLRF4REC_CACHE``, or ``~/.cache/rlrf4rec``.

    The folder need not exist yet.
    """
    configured = os.environ.get("RLRF4REC_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "rlrf4rec"
