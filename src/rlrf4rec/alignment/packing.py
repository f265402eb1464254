"""Answers to one prompt, laid into one row.

A preference pair repeats its prompt: TRL's batch of ``b`` pairs holds ``2b`` rows, first the chosen
ones, then the rejected ones. Here a prompt is laid down once, followed by all its answers; pairs
that stand next to each other and have the same prompt share a row:

    prompt · chosen answer · rejected answer · the next pair's chosen answer · …

The attention mask hides answers from one another, and the positions of each start where the prompt
ends, so every token sees exactly what it sees in its own row. The hidden state of the last prompt
token predicts the first token of every answer.

Shape legend: ``b`` pairs, ``l`` tokens in a row of TRL's batch, ``r`` packed rows of ``w`` tokens,
``n`` answer tokens in the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

IGNORED_LABEL = -100
"""The label of a token that is not scored (PyTorch's and TRL's convention)."""

_PROMPT, _PADDING = 0, -1
"""Segments of a packed row; answers are numbered from 1."""


@dataclass(frozen=True)
class ScoringPlan:
    """What to run through the backbone, and where the answers' predictions are found in it.

    Answer tokens are numbered in the row-major order of TRL's batch.

    Attributes:
        input_ids: ``[r, w]``, or TRL's own ``[2b, l]`` where prompts are not shared.
        attention_mask: ``[r, 1, w, w]``, true where a query (third axis) may look at a key (fourth
            axis); or TRL's own ``[2b, l]``.
        position_ids: ``[r, w]``, or None for the model's default.
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
    """Lay each prompt and the answers of its pairs into one row.

    Args:
        input_ids: ``[2b, l]``, chosen rows first, padded on the right.
        attention_mask: ``[2b, l]``, 1 for a token, 0 for padding.
        labels: ``[2b, l]``, `IGNORED_LABEL` outside the answers.
        prompt_lengths: ``[b]``, from `shared_prompt_lengths`.
    """
    n_pairs = len(prompt_lengths)
    begins, ends = prompt_lengths.tolist(), attention_mask.sum(dim=1).tolist()
    rows: list[_PackedRow] = []
    row_of, shift_of = (torch.zeros(2 * n_pairs, dtype=torch.long) for _ in range(2))
    for pairs in _sharing_a_prompt(input_ids[:n_pairs], begins):
        begin = begins[pairs[0]]
        answers = [answer for pair in pairs for answer in (pair, pair + n_pairs)]
        row = _PackedRow.of(
            [input_ids[pairs[0], :begin]] + [input_ids[one, begin : ends[one]] for one in answers]
        )
        for answer, column in zip(answers, row.answer_columns, strict=True):
            row_of[answer], shift_of[answer] = len(rows), column - begin
        rows.append(row)

    plan = plan_answers(input_ids, attention_mask, labels)
    device = input_ids.device
    # The last prompt token predicts every first token; only what comes after it has moved.
    moved = plan.columns >= prompt_lengths.repeat(2)[plan.rows]
    shift = torch.where(moved, shift_of.to(device)[plan.rows], 0)
    segments = pad_sequence(
        [row.segments for row in rows], batch_first=True, padding_value=_PADDING
    )
    return ScoringPlan(
        # Any token will do for padding: nobody looks at it.
        input_ids=pad_sequence([row.tokens for row in rows], batch_first=True),
        attention_mask=visibility(segments),
        position_ids=pad_sequence([row.positions for row in rows], batch_first=True),
        rows=row_of.to(device)[plan.rows],
        columns=plan.columns + shift,
        targets=plan.targets,
        scored=plan.scored,
    )


@dataclass(frozen=True)
class _PackedRow:
    """A prompt and its answers, one after another.

    Attributes:
        tokens: ``[w]``.
        positions: ``[w]``, of each token in the row it comes from.
        segments: ``[w]``, `_PROMPT` or the number of the answer.
        answer_columns: where each answer starts.
    """

    tokens: Tensor
    positions: Tensor
    segments: Tensor
    answer_columns: list[int]

    @classmethod
    def of(cls, parts: list[Tensor]) -> _PackedRow:
        """From the prompt's tokens and each answer's."""
        prompt, *answers = parts
        device = prompt.device
        begins = [0] + [len(prompt)] * len(answers)
        lengths = torch.tensor([len(part) for part in parts], device=device)
        return cls(
            torch.cat(parts),
            torch.cat(
                [
                    torch.arange(begin, begin + len(part), device=device)
                    for begin, part in zip(begins, parts, strict=True)
                ]
            ),
            torch.arange(len(parts), device=device).repeat_interleave(lengths),
            lengths.cumsum(0)[:-1].tolist(),
        )


def _sharing_a_prompt(chosen: Tensor, begins: list[int]) -> list[list[int]]:
    """Pairs in groups: neighbours with the same prompt.

    Args:
        chosen: ``[b, l]``, token ids.
        begins: ``[b]``, where each prompt ends and its answers begin.
    """
    groups: list[list[int]] = []
    for pair, begin in enumerate(begins):
        last = groups[-1][0] if groups else None
        if (
            last is not None
            and begins[last] == begin
            and torch.equal(chosen[last, :begin], chosen[pair, :begin])
        ):
            groups[-1].append(pair)
        else:
            groups.append([pair])
    return groups


def visibility(segments: Tensor) -> Tensor:
    """Who may look at whom: earlier tokens of the prompt or of one's own segment.

    Args:
        segments: ``[r, w]``, `_PROMPT`, an answer's number, or `_PADDING`.

    Returns:
        ``[r, 1, w, w]``, boolean; every token sees itself, so no row of the mask is empty.
    """
    query, key = segments.unsqueeze(2), segments.unsqueeze(1)
    causal = torch.ones(
        segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device
    ).tril()
    return (causal & ((key == _PROMPT) | (key == query))).unsqueeze(1)
