"""Laying two answers behind one prompt, worked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rlrf4rec.alignment.known_stem import KnownStem
from rlrf4rec.alignment.packing import PackedBatch, prompt_lengths, shared_prompt_lengths
from rlrf4rec.alignment.scoring_plan import Branches, ScoringPlan, plan_answers

X = -100


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    """Two pairs: prompt 1 2 with answers 3 4 and 5; prompt 6 with answers 7 and 8 9."""
    input_ids = torch.tensor([[1, 2, 3, 4], [6, 7, 0, 0], [1, 2, 5, 0], [6, 8, 9, 0]])
    attention_mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0]])
    labels = torch.tensor([[X, X, 3, 4], [X, 7, X, X], [X, X, 5, X], [X, 8, 9, X]])
    return input_ids, attention_mask, labels


def _plan_pairs(batch: tuple[Tensor, Tensor, Tensor], lengths: Tensor) -> ScoringPlan:
    return PackedBatch.of_pairs(*batch, lengths).plan_padded()


def test_a_pair_becomes_one_row() -> None:
    batch = _batch()
    lengths = shared_prompt_lengths(*batch)
    assert lengths is not None
    assert lengths.tolist() == [2, 1]
    plan = _plan_pairs(batch, lengths)

    assert plan.position_ids is not None
    assert plan.input_ids[0].tolist() == [1, 2, 3, 4, 5]
    assert plan.input_ids[1, :4].tolist() == [6, 7, 8, 9]
    assert plan.position_ids[0].tolist() == [0, 1, 2, 3, 2]
    assert plan.position_ids[1, :4].tolist() == [0, 1, 1, 2]
    # 3 and 5 are predicted by the prompt's last token 2 (column 1), 4 by 3 (column 2); in the
    # second row 7 and 8 by 6 (column 0), 9 by 8, which has moved behind 7 (column 2).
    assert plan.targets.tolist() == [3, 4, 7, 5, 8, 9]
    assert plan.rows.tolist() == [0, 0, 1, 0, 1, 1]
    assert plan.columns.tolist() == [1, 2, 0, 1, 0, 2]


def test_the_mask_hides_the_chosen_answer_from_the_rejected_one() -> None:
    batch = _batch()
    plan = _plan_pairs(batch, torch.tensor([2, 1]))
    assert plan.attention_mask.shape == (2, 1, 5, 5)
    assert plan.attention_mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],  # prompt
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],  # chosen
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],  # rejected
    ]
    assert plan.attention_mask[1, 0].int().tolist() == [
        [1, 0, 0, 0, 0],  # prompt
        [1, 1, 0, 0, 0],  # chosen
        [1, 0, 1, 0, 0],  # rejected
        [1, 0, 1, 1, 0],
        [1, 0, 0, 0, 1],  # padding: nobody looks at it
    ]


def test_neighbours_with_one_prompt_share_a_row() -> None:
    """Prompt 1 2: answers 3 4 and 5, then 6 and 7 8."""
    batch = (
        torch.tensor([[1, 2, 3, 4], [1, 2, 6, 0], [1, 2, 5, 0], [1, 2, 7, 8]]),
        torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]]),
        torch.tensor([[X, X, 3, 4], [X, X, 6, X], [X, X, 5, X], [X, X, 7, 8]]),
    )
    lengths = shared_prompt_lengths(*batch)
    assert lengths is not None
    plan = _plan_pairs(batch, lengths)
    assert plan.position_ids is not None
    assert plan.input_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert plan.position_ids.tolist() == [[0, 1, 2, 3, 2, 2, 2, 3]]
    assert plan.attention_mask[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0, 0],
        [1, 1, 0, 0, 0, 1, 0, 0],
        [1, 1, 0, 0, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 0, 1, 1],
    ]
    # First tokens are predicted by 2 (column 1), 4 by 3 (column 2), 8 by 7 (column 6).
    assert plan.targets.tolist() == [3, 4, 6, 5, 7, 8]
    assert plan.rows.tolist() == [0] * 6
    assert plan.columns.tolist() == [1, 2, 1, 1, 1, 6]


def test_only_equal_prompts_share_a_row() -> None:
    """A prompt that begins like the one before, but goes on, has a row of its own."""
    batch = (
        torch.tensor([[1, 2, 3], [1, 2, 3], [1, 4, 0], [1, 2, 5]]),
        torch.tensor([[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 1, 1]]),
        torch.tensor([[X, 2, 3], [X, X, 3], [X, 4, X], [X, X, 5]]),
    )
    plan = _plan_pairs(batch, torch.tensor([1, 2]))
    assert plan.input_ids.tolist() == [[1, 2, 3, 4], [1, 2, 3, 5]]


class TestFlat:
    """Prompts 1 2 3 (answers 4 5 and 6) and 1 2 7 (answers 9 and 4): the stem is 1 2."""

    BATCH = (
        torch.tensor([[1, 2, 3, 4, 5], [1, 2, 7, 9, 0], [1, 2, 3, 6, 0], [1, 2, 7, 4, 0]]),
        torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0]]),
        torch.tensor([[X, X, X, 4, 5], [X, X, X, 9, X], [X, X, X, 6, X], [X, X, X, 4, X]]),
    )

    def _plan(self) -> ScoringPlan:
        plan = PackedBatch.of_pairs(*self.BATCH, torch.tensor([3, 3])).plan_flat()
        assert plan is not None
        assert plan.position_ids is not None
        assert plan.branches is not None
        return plan

    def test_one_row_without_padding(self) -> None:
        plan = self._plan()
        assert plan.position_ids is not None
        assert plan.input_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 9, 4]]
        assert plan.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 2, 3, 3]]
        # 4 is predicted by 3 (column 2), 5 by 4, 9 by 7 (column 6), 6 by 3, the last 4 by 7.
        assert plan.targets.tolist() == [4, 5, 9, 6, 4]
        assert plan.rows.tolist() == [0] * 5
        assert plan.columns.tolist() == [2, 3, 6, 2, 6]

    def test_branches_and_their_mask(self) -> None:
        plan = self._plan()
        assert plan.branches is not None
        assert plan.branches == Branches(stem=2, lengths=(4, 3))
        assert plan.attention_mask.shape == (2, 1, 4, 4)
        assert plan.attention_mask[0, 0].int().tolist() == [
            [1, 0, 0, 0],  # the prompt's end
            [1, 1, 0, 0],  # chosen
            [1, 1, 1, 0],
            [1, 0, 0, 1],  # rejected
        ]

    @pytest.mark.parametrize(
        ("read_before", "ids", "columns"),
        [
            pytest.param([1, 2, 8], [3, 4, 5, 6, 7, 9, 4], [0, 1, 4, 0, 4], id="all of it"),
            # 2 is laid down for each prompt.
            pytest.param([1, 8], [2, 3, 4, 5, 6, 2, 7, 9, 4], [1, 2, 6, 1, 6], id="half"),
            pytest.param([8], [1, 2, 3, 4, 5, 6, 7, 9, 4], [2, 3, 6, 2, 6], id="nothing"),
        ],
    )
    def test_what_is_known_of_the_stem_is_left_out(
        self, read_before: list[int], ids: list[int], columns: list[int]
    ) -> None:
        known = KnownStem()
        known.read_anew(torch.tensor(read_before))
        known.keep(torch.nn.Identity(), torch.zeros(1), torch.zeros(1))
        plan = PackedBatch.of_pairs(*self.BATCH, torch.tensor([3, 3])).plan_flat(known)
        assert plan is not None
        assert plan.branches is not None
        assert plan.position_ids is not None
        assert plan.input_ids.tolist() == [ids]
        assert plan.columns.tolist() == columns
        assert plan.branches.reads_stem == (ids[0] == 1)
        if ids[0] == 2:
            assert plan.branches.stem == 1
            assert plan.branches.lengths == (5, 4)
            assert plan.position_ids.tolist() == [[1, 2, 3, 4, 3, 1, 2, 3, 3]]

    def test_one_answer_a_row(self) -> None:
        """Of the shorter prompt the last token stays out of the stem: it predicts."""
        batch, rows = self._rows([[1, 2, 3, 4], [1, 2, 5, 6]], [[X, X, 3, 4], [X, X, X, 6]])
        plan = batch.plan_flat()
        assert plan is not None
        assert plan.input_ids.tolist() == [[1, 2, 3, 4, 2, 5, 6]]
        assert plan.columns.tolist() == [1, 2, 5]
        assert batch.plan_padded().input_ids is rows

    def test_answers_of_one_prompt_share_a_row(self) -> None:
        batch, _ = self._rows(
            [[1, 2, 3, 4], [1, 2, 5, 0], [7, 8, 9, 0]],
            [[X, X, 3, 4], [X, X, 5, X], [X, X, 9, X]],
        )
        plan = batch.plan_padded()
        assert plan.input_ids.tolist() == [[1, 2, 3, 4, 5], [7, 8, 9, 0, 0]]
        # 3 and 5 are predicted by 2 (column 1), 4 by 3, 9 by 8.
        assert plan.targets.tolist() == [3, 4, 5, 9]
        assert plan.rows.tolist() == [0, 0, 0, 1]
        assert plan.columns.tolist() == [1, 2, 1, 1]

    def _rows(
        self, input_ids: list[list[int]], labels: list[list[int]]
    ) -> tuple[PackedBatch, torch.Tensor]:
        """A batch of one answer a row, and its tokens; 0 is padding."""
        ids = torch.tensor(input_ids)
        rows = (ids, (ids != 0).long(), torch.tensor(labels))
        lengths = prompt_lengths(*rows)
        assert lengths is not None
        return PackedBatch.of_rows(*rows, lengths), ids

    def test_no_stem_no_flat_row(self) -> None:
        batch = _batch()
        assert PackedBatch.of_pairs(*batch, torch.tensor([2, 1])).plan_flat() is None
        alone = tuple(part[[0, 2]] for part in batch)
        assert PackedBatch.of_pairs(*alone, torch.tensor([2])).plan_flat() is None


@pytest.mark.parametrize("packed", [True, False])
def test_all_of_a_plan_goes_to_its_device(packed: bool) -> None:
    """Also where no two rows share a prompt, and they stay as they are, without positions."""
    rows = _batch()
    if packed:
        batch = PackedBatch.of_pairs(*rows, torch.tensor([2, 1]))
    else:
        batch = PackedBatch.of_rows(*(part[:2] for part in rows), torch.tensor([2, 1]))
    plan = batch.plan_padded(torch.device("meta"))
    tensors = [value for value in vars(plan).values() if isinstance(value, Tensor)]
    assert len(tensors) == (7 if packed else 6)
    assert all(value.is_meta for value in tensors)
    assert not batch.plan_padded().input_ids.is_meta


def test_scores_return_to_the_batch_layout() -> None:
    batch = _batch()
    plan = _plan_pairs(batch, torch.tensor([2, 1]))
    scores = torch.tensor([[0.3, 0.4, 0.7, 0.5, 0.8, 0.9]])
    expected = [[0, 0.3, 0.4], [0.7, 0, 0], [0, 0.5, 0], [0.8, 0.9, 0]]
    torch.testing.assert_close(plan.spread(scores), torch.tensor(expected))

    hidden = torch.arange(10.0).reshape(2, 5, 1)
    assert plan.pick(hidden).flatten().tolist() == [1, 2, 5, 1, 5, 7]


def test_answers_alone_leave_the_rows_as_they_are() -> None:
    batch = _batch()
    plan = plan_answers(*batch)
    assert plan.input_ids is batch[0]
    assert plan.rows.tolist() == [0, 0, 1, 2, 3, 3]
    assert plan.columns.tolist() == [1, 2, 0, 1, 0, 1]
    assert plan.targets.tolist() == [3, 4, 7, 5, 8, 9]


def test_what_cannot_be_packed() -> None:
    input_ids, attention_mask, labels = _batch()

    other_prompt = input_ids.clone()
    other_prompt[2, 0] = 8
    assert shared_prompt_lengths(other_prompt, attention_mask, labels) is None

    without_answer = labels.clone()
    without_answer[2] = X
    assert shared_prompt_lengths(input_ids, attention_mask, without_answer) is None

    without_prompt = labels.clone()
    without_prompt[[1, 3], 0] = 6
    assert shared_prompt_lengths(input_ids, attention_mask, without_prompt) is None

    flipped = (input_ids.flip(1), attention_mask.flip(1), labels.flip(1))
    assert shared_prompt_lengths(*flipped) is None

    assert shared_prompt_lengths(input_ids[:3], attention_mask[:3], labels[:3]) is None
