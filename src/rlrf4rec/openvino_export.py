"""Models in OpenVINO's format: exported with optimum-intel, and kept in the cache.

Imported before any of OpenVINO, which it keeps from reporting its use.
"""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from rlrf4rec.models import cached_folder
from rlrf4rec.workspace import fingerprint

# OpenVINO and its converter report each use to their maker, unasked. No setting turns that off, but
# they do without the package that reports.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: not installed

_FULL = 16 * 2**20
"""Bytes. What a failed export leaves of a disk that was too small for it is less."""


def export(kind: str, model_folder: Path, output: Path) -> None:
    """Export a Hugging Face model folder, with its weights as they are.

    Args:
        kind: a class of optimum-intel, such as ``OVModelForCausalLM``.
        model_folder: Hugging Face layout.
        output: the folder to write into.

    Raises:
        ImportError: the package optimum-intel is not installed.
        OSError: the disk is full.
    """
    exporter = getattr(importlib.import_module("optimum.intel"), kind)
    with warnings.catch_warnings():
        # Tracing warns of Python values that are constant for one model.
        warnings.simplefilter("ignore")
        try:
            model = exporter.from_pretrained(
                model_folder, export=True, compile=False, load_in_8bit=False
            )
            model.save_pretrained(output)
        except RuntimeError as error:
            # OpenVINO does not say why it could not write.
            for folder in (output, Path(tempfile.gettempdir())):
                if shutil.disk_usage(folder).free < _FULL:
                    full = errno.ENOSPC
                    raise OSError(full, os.strerror(full), str(folder)) from error
            raise


def cached_export(model_folder: Path, make: Callable[[Path], None], prefix: str = "") -> Path:
    """The export of a model folder, made by ``make`` unless the cache has it.

    Args:
        model_folder: a changed file in it is another model.
        make: fills an empty folder.
        prefix: tells exports of one folder apart.
    """
    facts = [
        (path.name, path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(model_folder.iterdir())
    ]
    key = fingerprint([str(model_folder), facts])[:16]
    return cached_folder(f"openvino/{prefix}{key}", make)
