"""How many pairs a GPU reads at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlrf4rec.alignment.gpu_memory import MicroBatch, pair_bytes, plan_micro_batch


@pytest.mark.parametrize(
    ("together", "room", "expected"),
    [
        (1, 160, MicroBatch(16, checkpointing=False)),
        (1, 159, MicroBatch(8, checkpointing=False)),
        (1, 10, MicroBatch(1, checkpointing=False)),
        (1, 9, MicroBatch(2, checkpointing=True)),
        (4, 79, MicroBatch(4, checkpointing=False)),
        (4, 39, MicroBatch(4, checkpointing=True)),
    ],
)
def test_the_most_pairs_that_fit_and_divide_a_step(
    together: int, room: int, expected: MicroBatch
) -> None:
    assert plan_micro_batch(16, together, 2, pair_bytes=10, room=room) == expected


def test_a_pair_by_hand(tiny_model_folder: Path) -> None:
    # 2 layers of 32 units, 68 bytes each: 4352 a token; 12 bytes a logit.
    vocabulary = pair_bytes(tiny_model_folder, 0, 1) - 4352
    assert vocabulary % 12 == 0
    assert pair_bytes(tiny_model_folder, 100, 20) == 120 * 4352 + 20 * vocabulary
