"""Step 5, structure alignment: tune the LLM on preference pairs.

`tune` turns pairs into an adapter, `merge_adapter` turns an adapter into a plain model, and
`SharedPromptDPOTrainer` is TRL's `DPOTrainer` made fast for answers that share a long prompt; it
can be used without the rest. All need ``pip install 'rlrf4rec[tune]'`` and are imported on first
use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from rlrf4rec.errors import MissingPartError

if TYPE_CHECKING:
    from rlrf4rec.alignment.models import merge_adapter
    from rlrf4rec.alignment.shared_prompt import SharedPromptDPOTrainer
    from rlrf4rec.alignment.stages import StepReport
    from rlrf4rec.alignment.tuning import TuningCurve, tune

_HOMES = {
    "SharedPromptDPOTrainer": "shared_prompt",
    "StepReport": "stages",
    "TuningCurve": "tuning",
    "merge_adapter": "models",
    "tune": "tuning",
}
__all__ = ["SharedPromptDPOTrainer", "StepReport", "TuningCurve", "merge_adapter", "tune"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("rlrf4rec"):
            raise
        raise MissingPartError(
            "the packages that tuning needs",
            found=f"no package {error.name!r}",
            remedy="Install them with: pip install 'rlrf4rec[tune]'",
        ) from error
    value: object = getattr(module, name)
    return value
