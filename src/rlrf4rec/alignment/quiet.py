"""Keeping the libraries' own output off the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
from transformers.utils import logging as transformers_logging


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """The libraries' bars off; a caller shows progress by `on_step`."""
    in_transformers = transformers_logging.is_progress_bar_enabled()
    in_datasets = not datasets.are_progress_bars_disabled()
    in_environment = os.environ.get("TQDM_DISABLE")
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    datasets.disable_progress_bars()
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        if in_transformers:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        if in_datasets:
            datasets.enable_progress_bars()
        if in_environment is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = in_environment
