"""Log-likelihoods of given answers: those of plain forward passes, whatever is read beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rlrf4rec.errors import ConfigError
from rlrf4rec.generation import likelihood
from rlrf4rec.generation.likelihood import LikelihoodScorer

PROMPT = [5, 9, 40, 7, 7, 120]
ANSWERS = [[30, 31, 32, 33], [8], [30, 31], [90, 14, 3, 77, 200, 61, 2], [9, 9], [8], [11, 12, 13]]


@pytest.fixture(scope="module")
def scorer(tiny_model_folder: Path) -> LikelihoodScorer:
    return LikelihoodScorer(tiny_model_folder, "float32", "cpu")


def plain_forward(folder: Path, prompt: list[int], answer: list[int]) -> float:
    """The definition: the sum over the answer of log softmax(logits of the token before)[token]."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].double()
    log_probabilities = logits.log_softmax(-1)
    return sum(
        float(log_probabilities[len(prompt) - 1 + step, token]) for step, token in enumerate(answer)
    )


def test_equals_a_plain_forward_of_each_answer(
    scorer: LikelihoodScorer, tiny_model_folder: Path
) -> None:
    expected = [plain_forward(tiny_model_folder, PROMPT, answer) for answer in ANSWERS]
    found = scorer.score(PROMPT, ANSWERS)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert len(set(np.round(expected, 2))) == len(ANSWERS) - 1  # [8] comes twice


def test_first_tokens_share_one_distribution(scorer: LikelihoodScorer) -> None:
    """Answers of one token each, over the whole vocabulary: their probabilities add up to 1."""
    vocabulary = [[token] for token in range(259)]
    assert np.exp(scorer.score(PROMPT, vocabulary)).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("row_tokens", [1, 5, 7, 1000])
def test_the_width_of_rows_does_not_matter(
    scorer: LikelihoodScorer, monkeypatch: pytest.MonkeyPatch, row_tokens: int
) -> None:
    expected = scorer.score(PROMPT, ANSWERS)
    monkeypatch.setattr(likelihood, "ROW_TOKENS", row_tokens)
    np.testing.assert_allclose(scorer.score(PROMPT, ANSWERS), expected, atol=1e-4)


def test_what_is_read_beside_it_does_not_matter(scorer: LikelihoodScorer) -> None:
    together = scorer.score(PROMPT, ANSWERS)
    alone = [scorer.score(PROMPT, [answer])[0] for answer in ANSWERS]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(scorer.score(PROMPT, ANSWERS[::-1])[::-1], together, atol=1e-4)


def test_another_prompt_between_changes_no_bit(scorer: LikelihoodScorer) -> None:
    first = scorer.score(PROMPT, ANSWERS)
    other = scorer.score(PROMPT[::-1], ANSWERS)
    assert np.array_equal(scorer.score(PROMPT, ANSWERS), first)
    assert not np.allclose(other, first, atol=0.1)


def test_bfloat16_is_near(scorer: LikelihoodScorer, tiny_model_folder: Path) -> None:
    """8 bits of mantissa: a relative error of some 1/256 in logits of size 10, a few tokens."""
    rough = LikelihoodScorer(tiny_model_folder, "bfloat16", "cpu").score(PROMPT, ANSWERS)
    np.testing.assert_allclose(rough, scorer.score(PROMPT, ANSWERS), atol=0.5)


def test_eager_attention_takes_the_mask(scorer: LikelihoodScorer, tiny_model_folder: Path) -> None:
    eager = LikelihoodScorer(tiny_model_folder, "float32", "cpu")
    eager._model.set_attn_implementation("eager")
    np.testing.assert_allclose(
        eager.score(PROMPT, ANSWERS), scorer.score(PROMPT, ANSWERS), atol=1e-4
    )


def test_nothing_to_score(scorer: LikelihoodScorer) -> None:
    assert scorer.score(PROMPT, []).shape == (0,)
    with pytest.raises(ValueError, match="at least one token"):
        scorer.score(PROMPT, [[1], []])
    with pytest.raises(ValueError, match="at least one token"):
        scorer.score([], [[1]])


def test_a_window_that_fits_is_no_obstacle_and_one_that_does_not_is_refused(
    tmp_path: Path,
) -> None:
    """Mistral's layers see the last 12 tokens: prompt 6 and answer 4 fit, 6 and 7 do not.

    The row of all answers together is longer than the window, which must not matter.
    """
    config = AutoConfig.for_model(
        "mistral",
        vocab_size=256,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=12,
        initializer_range=0.3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)  # type: ignore[no-untyped-call]
    scorer = LikelihoodScorer(tmp_path, "float32", "cpu")
    short = [[30, 31, 32, number] for number in range(20)]
    expected = [plain_forward(tmp_path, PROMPT, answer) for answer in short]
    np.testing.assert_allclose(scorer.score(PROMPT, short), expected, atol=1e-4)
    with pytest.raises(ConfigError, match="sliding_window 12"):
        scorer.score(PROMPT, ANSWERS)


@pytest.mark.gpu
def test_cuda_agrees(scorer: LikelihoodScorer, tiny_model_folder: Path) -> None:
    on_gpu = LikelihoodScorer(tiny_model_folder, "float32", "cuda").score(PROMPT, ANSWERS)
    np.testing.assert_allclose(on_gpu, scorer.score(PROMPT, ANSWERS), atol=1e-3)
