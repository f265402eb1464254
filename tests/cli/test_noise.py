"""Third-party warnings and bars are off for users of the command line, unless asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import logging, os, sys, warnings
from rlrf4rec.cli.noise import choose_noise
choose_noise(sys.argv[1] == "verbose")
warnings.warn("a warning")
logging.getLogger("transformers.x").warning("a log line")
logging.getLogger("rlrf4rec.x").info("our own line")
import tqdm
list(tqdm.tqdm([1], desc="a bar"))
print(os.environ.get("TRANSFORMERS_VERBOSITY"))
"""


@pytest.mark.parametrize("mode", ["quiet", "verbose"])
def test_only_our_own_lines_are_heard(mode: str) -> None:
    environment = {key: value for key, value in os.environ.items() if "TQDM" not in key}
    environment["TRANSFORMERS_VERBOSITY"] = "info"  # the user's own choice stays
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert result.stdout.strip() == "info"
    if mode == "quiet":
        assert result.stderr.strip() == "our own line"
    else:
        for heard in ("a warning", "a log line", "our own line", "a bar"):
            assert heard in result.stderr
