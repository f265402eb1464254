"""Two answers to one prompt, laid into one row.

A preference pair repeats its prompt: TRL's batch of ``b`` pairs holds ``2b`` rows, first the chosen
ones, then the rejected ones. Here the prompt is laid down once, followed by both answers:

    prompt · chosen answer · rejected answer

The attention mask hides the chosen answer from the rejected one, and the positions of both answers
start where the prompt ends, so every token sees exactly what it sees in its own row. The hidden
state of the last prompt token predicts the first token of both answers.

Shape legend: ``b`` pairs, ``l`` tokens in a row of TRL's batch, ``w`` tokens in a packed row, ``n``
answer tokens in the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED_LABEL = -100
"""The label of a token that is not scored (PyTorch's and TRL's convention)."""

_PROMPT, _CHOSEN, _REJECTED, _PADDING = range(4)


@dataclass(frozen=True)
class ScoringPlan:
    """What to run through the backbone, and where the answers' predictions are found in it.

    Answer tokens are numbered in the row-major order of TRL's batch.

    Attributes:
        input_ids: ``[b, w]``, or TRL's own ``[2b, l]`` where prompts are not shared.
        attention_mask: ``[b, 1, w, w]``, true where a query (third axis) may look at a key (fourth
            axis); or TRL's own ``[2b, l]``.
        position_ids: ``[b, w]``, or None for the model's default.
        rows: ``[n]``, the row of `input_ids` in which an answer token is predicted.
        columns: ``[n]``, the column of the token whose hidden state predicts it.
        targets: ``[n]``, the answer tokens.
        scored: ``[2b, l - 1]``, true where TRL expects an answer token's score.
    """

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor | None
    rows: Tensor
    columns: Tensor
    targets: Tensor
    scored: Tensor

    def pick(self, hidden_states: Tensor) -> Tensor:
        """The hidden states that predict the answers: ``[rows, columns, d]`` to ``[1, n, d]``."""
        return hidden_states[self.rows, self.columns].unsqueeze(0)

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


def shared_prompt_lengths(
    input_ids: Tensor, attention_mask: Tensor, labels: Tensor
) -> Tensor | None:
    """The number of prompt tokens of each pair, ``[b]``, or None if a pair's prompts differ.

    None also where packing would not hold: rows padded on the left, an answer or a prompt without
    tokens, an unscored token inside or after an answer.

    Args:
        input_ids: ``[2b, l]``, chosen rows first.
        attention_mask: ``[2b, l]``, 1 for a token, 0 for padding.
        labels: ``[2b, l]``, `IGNORED_LABEL` outside the answers.
    """
    if len(input_ids) % 2:
        return None
    columns = torch.arange(input_ids.shape[1], device=input_ids.device)
    lengths = attention_mask.sum(dim=1, keepdim=True)
    scored = labels != IGNORED_LABEL
    starts = lengths - scored.sum(dim=1, keepdim=True)
    right_padded = (attention_mask.bool() == (columns < lengths)).all()
    answers_end_rows = (scored == ((columns >= starts) & (columns < lengths))).all()
    chosen, rejected = input_ids.chunk(2)
    chosen_starts, rejected_starts = starts.chunk(2)
    same_prompts = ((chosen == rejected) | (columns >= chosen_starts)).all()
    shared = (
        right_padded
        & answers_end_rows
        & same_prompts
        & (chosen_starts == rejected_starts).all()
        & (starts > 0).all()
        & (starts < lengths).all()
    )
    return chosen_starts.squeeze(1) if shared.item() else None


def plan_pairs(
    input_ids: Tensor, attention_mask: Tensor, labels: Tensor, prompt_lengths: Tensor
) -> ScoringPlan:
    """Lay each pair into one row.

    Args:
        input_ids: ``[2b, l]``, chosen rows first, padded on the right.
        attention_mask: ``[2b, l]``, 1 for a token, 0 for padding.
        labels: ``[2b, l]``, `IGNORED_LABEL` outside the answers.
        prompt_lengths: ``[b]``, from `shared_prompt_lengths`.
    """
    chosen, rejected = input_ids.chunk(2)
    chosen_ends, rejected_ends = attention_mask.sum(dim=1, keepdim=True).chunk(2)
    prompt_ends = prompt_lengths.unsqueeze(1)
    packed_ends = chosen_ends + rejected_ends - prompt_ends
    columns = torch.arange(int(packed_ends.max()), device=input_ids.device).expand(len(chosen), -1)

    segments = torch.full_like(columns, _PADDING)
    segments[columns < packed_ends] = _REJECTED
    segments[columns < chosen_ends] = _CHOSEN
    segments[columns < prompt_ends] = _PROMPT

    after_chosen = columns >= chosen_ends
    position_ids = torch.where(after_chosen, columns - chosen_ends + prompt_ends, columns)
    # Padding runs past the end of the row it is read from; any token will do there.
    source = position_ids.clamp(max=input_ids.shape[1] - 1)
    packed = torch.where(after_chosen, rejected.gather(1, source), chosen.gather(1, source))

    plan = plan_answers(input_ids, attention_mask, labels)
    pairs = plan.rows % len(chosen)
    answer_lengths = (chosen_ends - prompt_ends).squeeze(1)
    # The last prompt token predicts both first tokens; only what comes after it has moved.
    moved = (plan.rows >= len(chosen)) & (plan.columns >= prompt_lengths[pairs])
    return ScoringPlan(
        input_ids=packed,
        attention_mask=visibility(segments),
        position_ids=position_ids,
        rows=pairs,
        columns=plan.columns + torch.where(moved, answer_lengths[pairs], 0),
        targets=plan.targets,
        scored=plan.scored,
    )


def visibility(segments: Tensor) -> Tensor:
    """Who may look at whom: earlier tokens of the prompt or of one's own segment.

    Args:
        segments: ``[b, w]``, 0 prompt, 1 chosen, 2 rejected, 3 padding.

    Returns:
        ``[b, 1, w, w]``, boolean; every token sees itself, so no row of the mask is empty.
    """
    query, key = segments.unsqueeze(2), segments.unsqueeze(1)
    causal = torch.ones(
        segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device
    ).tril()
    return (causal & ((key == _PROMPT) | (key == query))).unsqueeze(1)
