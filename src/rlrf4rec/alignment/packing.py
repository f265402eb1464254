"""Prompts and answers, laid down so that nothing is read twice.

A preference pair repeats its prompt: TRL's batch of ``b`` pairs holds ``2b`` rows, first the chosen
ones, then the rejected ones. Here a prompt is laid down once, followed by all its answers; pairs
that stand next to each other and have the same prompt share a row:

    prompt · chosen answer · rejected answer · the next pair's chosen answer · …

The attention mask hides answers from one another, and the positions of each start where the prompt
ends, so every token sees exactly what it sees in its own row. The hidden state of the last prompt
token predicts the first token of every answer.

Prompts of one template begin alike, too: with the instruction and the worked examples. `plan_flat`
lays this stem down once for the whole batch, and what is left of each packed row behind it:

    stem · the first prompt's end and its answers · the second prompt's end and its answers · …

Shape legend: ``b`` pairs, ``l`` tokens in a row of TRL's batch, ``r`` packed rows of ``w`` tokens,
``s`` tokens of the stem, ``v`` tokens of the longest row behind the stem, ``n`` answer tokens in
the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rlrf4rec.alignment.known_stem import KnownStem
from rlrf4rec.alignment.scoring_plan import IGNORED_LABEL, Branches, ScoringPlan, plan_answers

_PROMPT, _PADDING = 0, -1
"""Segments of a packed row; answers are numbered from 1."""


def prompt_lengths(input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor | None:
    """The number of prompt tokens of each row, ``[r]``, or None where packing would not hold.

    That is with rows padded on the left, an answer or a prompt without tokens, an unscored token
    inside or after an answer.

    Args:
        input_ids: ``[r, l]``.
        attention_mask: ``[r, l]``, 1 for a token, 0 for padding.
        labels: ``[r, l]``, `IGNORED_LABEL` outside the answers.
    """
    columns = torch.arange(input_ids.shape[1], device=input_ids.device)
    lengths = attention_mask.sum(dim=1, keepdim=True)
    scored = labels != IGNORED_LABEL
    starts = lengths - scored.sum(dim=1, keepdim=True)
    right_padded = (attention_mask.bool() == (columns < lengths)).all()
    answers_end_rows = (scored == ((columns >= starts) & (columns < lengths))).all()
    packable = right_padded & answers_end_rows & (starts > 0).all() & (starts < lengths).all()
    return starts.squeeze(1) if packable.item() else None


def shared_prompt_lengths(
    input_ids: Tensor, attention_mask: Tensor, labels: Tensor
) -> Tensor | None:
    """The number of prompt tokens of each pair, ``[b]``, or None if a pair's prompts differ.

    None also where `prompt_lengths` is.

    Args:
        input_ids: ``[2b, l]``, chosen rows first.
        attention_mask: ``[2b, l]``, 1 for a token, 0 for padding.
        labels: ``[2b, l]``, `IGNORED_LABEL` outside the answers.
    """
    starts = None if len(input_ids) % 2 else prompt_lengths(input_ids, attention_mask, labels)
    if starts is None:
        return None
    columns = torch.arange(input_ids.shape[1], device=input_ids.device)
    chosen, rejected = input_ids.chunk(2)
    chosen_starts, rejected_starts = starts.chunk(2)
    same_prompts = ((chosen == rejected) | (columns >= chosen_starts.unsqueeze(1))).all()
    shared = same_prompts & (chosen_starts == rejected_starts).all()
    return chosen_starts if shared.item() else None


class PackedBatch:
    """A batch's rows, those of one prompt packed into one.

    Args:
        input_ids: ``[r, l]``, padded on the right.
        attention_mask: ``[r, l]``, 1 for a token, 0 for padding.
        labels: ``[r, l]``, `IGNORED_LABEL` outside the answers.
        begins: of each row, where its prompt ends.
        groups: rows that have the same prompt, in the order in which their answers are laid down.

    Attributes:
        unpacked: the plan that leaves the rows as they are, see `plan_answers`.
    """

    def __init__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        begins: list[int],
        groups: list[list[int]],
    ) -> None:
        ends = attention_mask.sum(dim=1).tolist()
        self.unpacked = plan_answers(input_ids, attention_mask, labels)
        self._rows: list[_PackedRow] = []
        row_of, shift_of = (torch.zeros(len(input_ids), dtype=torch.long) for _ in range(2))
        for answers in groups:
            begin = begins[answers[0]]
            row = _PackedRow.of(
                [input_ids[answers[0], :begin]]
                + [input_ids[one, begin : ends[one]] for one in answers]
            )
            for answer, column in zip(answers, row.answer_columns, strict=True):
                row_of[answer], shift_of[answer] = len(self._rows), column - begin
            self._rows.append(row)
        unpacked, device = self.unpacked, input_ids.device
        # The last prompt token predicts every first token; only what comes after it has moved.
        moved = unpacked.columns >= torch.tensor(begins, device=device)[unpacked.rows]
        shift = torch.where(moved, shift_of.to(device)[unpacked.rows], 0)
        self._predicted_in = row_of.to(device)[unpacked.rows]
        self._predicted_by = unpacked.columns + shift

    @classmethod
    def of_pairs(
        cls, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, lengths: Tensor
    ) -> PackedBatch:
        """From a batch ``[2b, l]``, chosen rows first, and its `shared_prompt_lengths`."""
        n_pairs, begins = len(lengths), lengths.tolist()
        groups = [
            [answer for pair in pairs for answer in (pair, pair + n_pairs)]
            for pairs in _sharing_a_prompt(input_ids[:n_pairs], begins)
        ]
        return cls(input_ids, attention_mask, labels, begins * 2, groups)

    @classmethod
    def of_rows(
        cls, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, lengths: Tensor
    ) -> PackedBatch:
        """From a batch ``[r, l]`` of one answer a row and its `prompt_lengths`."""
        begins = lengths.tolist()
        return cls(input_ids, attention_mask, labels, begins, _sharing_a_prompt(input_ids, begins))

    def plan_padded(self, device: torch.device | None = None) -> ScoringPlan:
        """A packed row for each prompt, padded to the longest; `unpacked` if no two share one.

        Args:
            device: where the plan is to be; None: where the batch is.
        """
        device = device or self.unpacked.targets.device
        if len(self._rows) == len(self.unpacked.input_ids):
            return self.unpacked.to(device)
        segments = self._padded([row.segments for row in self._rows], _PADDING)
        packed = replace(
            self.unpacked,
            # Any token will do for padding: nobody looks at it.
            input_ids=self._padded([row.tokens for row in self._rows]),
            # Made there: it is the largest part by far.
            attention_mask=visibility(segments.to(device)),
            position_ids=self._padded([row.positions for row in self._rows]),
            rows=self._predicted_in,
            columns=self._predicted_by,
        )
        return packed.to(device)

    def plan_flat(self, known: KnownStem | None = None) -> ScoringPlan | None:
        """One row of all prompts behind what they begin with; None where they do not begin alike.

        Only the attention looks at its structure; all other layers read every token once, without
        padding.

        Args:
            known: of the model that will run the plan. What is known of the stem is left out.
        """
        stem = self._stem()
        if stem == 0:
            return None
        first = self._rows[0]
        reach = 0 if known is None else known.reach(first.tokens[:stem])
        stem = reach or stem
        device = self.unpacked.targets.device
        lengths = tuple(len(row.tokens) - stem for row in self._rows)
        own = torch.tensor(lengths, device=device)
        begins = stem - reach + own.cumsum(0) - own
        segments = self._padded([row.segments[stem:] for row in self._rows], _PADDING)
        return replace(
            self.unpacked,
            input_ids=_flat(first.tokens[reach:stem], [row.tokens[stem:] for row in self._rows]),
            attention_mask=visibility(segments),
            position_ids=_flat(
                first.positions[reach:stem], [row.positions[stem:] for row in self._rows]
            ),
            rows=torch.zeros_like(self._predicted_in),
            columns=begins[self._predicted_in] + self._predicted_by - stem,
            branches=Branches(stem, lengths, known, reads_stem=reach == 0),
        )

    def _stem(self) -> int:
        """Tokens that all prompts begin with; of each prompt at least its last token is left."""
        prompts = [row.tokens[: row.answer_columns[0] - 1] for row in self._rows]
        if len(prompts) < 2:
            return 0
        shortest = min(len(prompt) for prompt in prompts)
        starts = torch.stack([prompt[:shortest] for prompt in prompts])
        alike = (starts == starts[0]).all(dim=0)
        return int(alike.cumprod(0).sum())

    @staticmethod
    def _padded(parts: list[Tensor], value: int = 0) -> Tensor:
        return pad_sequence(parts, batch_first=True, padding_value=value)


def _flat(stem: Tensor, parts: list[Tensor]) -> Tensor:
    return torch.cat([stem, *parts]).unsqueeze(0)


@dataclass(frozen=True)
class _PackedRow:
    """A prompt and its answers, one after another.

    Attributes:
        tokens: ``[w]``.
        positions: ``[w]``, of each token in the row it comes from.
        segments: ``[w]``, `_PROMPT` or the number of the answer.
        answer_columns: where each answer starts; the first one where the prompt ends.
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


def _sharing_a_prompt(input_ids: Tensor, begins: list[int]) -> list[list[int]]:
    """Rows in groups: neighbours with the same prompt.

    Args:
        input_ids: ``[r, l]``.
        begins: ``[r]``, where each prompt ends and its answer begins.
    """
    groups: list[list[int]] = []
    for row, begin in enumerate(begins):
        last = groups[-1][0] if groups else None
        if (
            last is not None
            and begins[last] == begin
            and torch.equal(input_ids[last, :begin], input_ids[row, :begin])
        ):
            groups[-1].append(row)
        else:
            groups.append([row])
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
