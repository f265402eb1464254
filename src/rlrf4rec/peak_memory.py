"""The process's peak of resident memory, over a stretch of work; on Linux."""

from __future__ import annotations

import re
from pathlib import Path

_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def reset_peak() -> bool:
    """Let the peak begin anew at what is resident now; False where the system cannot."""
    try:
        _RESET.write_text("5")  # see proc_pid_clear_refs(5)
    except OSError:
        return False
    return True


def peak_megabytes() -> float | None:
    """The peak since it was reset (or the process began), in 10^6 bytes; None: not known.

    Processes that this one started are not in it.
    """
    # Not getrusage: its peak cannot be reset, and is at least that of the process that this one was
    # forked from.
    try:
        found = _PEAK.search(_STATUS.read_text(encoding="utf-8"))
    except OSError:
        return None
    return None if found is None else int(found[1]) * 1024 / 1e6
