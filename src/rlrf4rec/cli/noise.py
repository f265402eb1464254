"""Warnings and progress bars of third-party libraries, off unless asked for."""

from __future__ import annotations

import logging
import os
import warnings

# Read once, when the libraries are imported; worker processes inherit them.
_QUIET = {
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


def choose_noise(verbose: bool) -> bool:
    """Silence the libraries, unless the user wants to hear them; what the user has set stays."""
    logging.basicConfig(format="%(message)s", level=logging.INFO if verbose else logging.ERROR)
    logging.getLogger("rlrf4rec").setLevel(logging.INFO)
    if not verbose:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        warnings.simplefilter("ignore")
    return verbose
