"""What a model reads of a batch, and where the scores of its answers are found.

Shape legend: see `packing`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlrf4rec.alignment.known_stem import KnownStem

IGNORED_LABEL = -100
"""The label of a token that is not scored (PyTorch's and TRL's convention)."""


@dataclass(frozen=True)
class Branches:
    """Where the packed rows' own tokens lie in a flat row, behind the stem that they share.

    Attributes:
        stem: ``s``, tokens of the stem.
        lengths: ``r`` numbers of tokens: each row's own, laid one after another behind the stem;
            the longest has ``v``.
        known: where the stem's keys and values are kept, of a model that does not change.
        reads_stem: whether the row begins with the stem; else it is known.
    """

    stem: int
    lengths: tuple[int, ...]
    known: KnownStem | None = None
    reads_stem: bool = True


@dataclass(frozen=True)
class ScoringPlan:
    """What to run through the backbone, and where the answers' predictions are found in it.

    Answer tokens are numbered in the row-major order of TRL's batch.

    Attributes:
        input_ids: ``[r, w]``; one flat row where `branches` are given; TRL's own ``[2b, l]`` where
            nothing is shared.
        attention_mask: ``[r, 1, w, w]``, true where a query (third axis) may look at a key (fourth
            axis); with `branches` ``[r, 1, v, v]``, since all look at the stem; or TRL's own
            ``[2b, l]``.
        position_ids: of `input_ids`, or None for the model's default.
        rows: ``[n]``, the row of `input_ids` in which an answer token is predicted.
        columns: ``[n]``, the column of the token whose hidden state predicts it.
        targets: ``[n]``, the answer tokens.
        scored: ``[2b, l - 1]``, true where TRL expects an answer token's score.
        branches: of a flat row.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor | None
    rows: Tensor
    columns: Tensor
    targets: Tensor
    scored: Tensor
    branches: Branches | None = None

    def pick(self, hidden_states: Tensor) -> Tensor:
        """The hidden states that predict the answers: ``[rows, columns, d]`` to ``[1, n, d]``."""
        return hidden_states[self.rows, self.columns].unsqueeze(0)

    def to(self, device: torch.device) -> ScoringPlan:
        """The same plan there."""
        positions = self.position_ids
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            position_ids=None if positions is None else positions.to(device),
            rows=self.rows.to(device),
            columns=self.columns.to(device),
            targets=self.targets.to(device),
            scored=self.scored.to(device),
        )

    def spread(self, scores: Tensor) -> Tensor:
        """Answer tokens' scores ``[1, n]`` in TRL's layout ``[2b, l - 1]``, zero elsewhere."""
        return scores.new_zeros(self.scored.shape).masked_scatter(self.scored, scores.squeeze(0))


def plan_answers(input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> ScoringPlan:
    """Leave the rows as they are and score the answers' tokens only.

    Args:
        input_ids: ``[r, l]``.
        attention_mask: ``[r, l]``, 1 for a token, 0 for padding.
        labels: ``[r, l]``, `IGNORED_LABEL` outside the answers.
    """
    scored = labels[:, 1:] != IGNORED_LABEL
    rows, columns = scored.nonzero(as_tuple=True)
    return ScoringPlan(
        input_ids, attention_mask, None, rows, columns, labels[:, 1:][scored], scored
    )
