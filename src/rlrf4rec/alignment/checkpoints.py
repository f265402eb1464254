"""What a killed tuning goes on from.

A stage's folder holds the Trainer's own checkpoints, ``checkpoint-5`` and so on. A checkpoint
counts once its marker file is there, which is written last; one without it was cut short.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import polars as pl
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from rlrf4rec.models import model_identity

_MARKER = "complete"
_KEY_FILE = "key"


class MarkComplete(TrainerCallback):
    """Marks each checkpoint after all of its files are written."""

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        assert args.output_dir is not None
        checkpoint = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        # With a folder of the reference's copy beside it, Trainer would resume from that copy and
        # leave the trained adapter at its start; the reference is made anew anyway.
        shutil.rmtree(checkpoint / "ref", ignore_errors=True)
        (checkpoint / _MARKER).touch()


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a stage; those cut short are removed."""
    complete: dict[int, Path] = {}
    for checkpoint in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if (checkpoint / _MARKER).is_file():
            complete[int(checkpoint.name.rpartition("-")[2])] = checkpoint
        else:
            shutil.rmtree(checkpoint)
    return complete[max(complete)] if complete else None


def clear_if_stale(folder: Path, key: str) -> None:
    """Empty the folder of checkpoints that were made under another key."""
    key_file = folder / _KEY_FILE
    if not key_file.is_file() or key_file.read_text(encoding="utf-8") != key:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    key_file.write_text(key, encoding="utf-8")


def tuning_key(
    base_model_folder: Path,
    pairs: pl.DataFrame,
    start_adapter: Path | None,
    settings: dict[str, object],
) -> str:
    """A hash of all that decides a tuning's result.

    The base model is known by samples of its files (its weights may be gigabytes), the start
    adapter by its weights.
    """
    digest = hashlib.sha256()
    for part in (
        json.dumps(settings, sort_keys=True, default=str).encode(),
        model_identity(str(base_model_folder)).encode(),
        pairs.write_json().encode(),
        b"" if start_adapter is None else _weights(start_adapter).read_bytes(),
    ):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _weights(adapter_folder: Path) -> Path:
    return adapter_folder / "adapter_model.safetensors"
