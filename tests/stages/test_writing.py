"""Texts put together from what was given and what was sampled, whatever the tokenizer."""

from __future__ import annotations

import string

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from rlrf4rec.generation import line_parts
from rlrf4rec.prompts.templates import LineForm
from rlrf4rec.stages.writing import continuation


@pytest.fixture
def spaced_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, a space before whatever is read and none where a text begins, as
    Llama 2's and Mistral's tokenizers have it.
    """
    letters = ["<unk>", "\u2581", *(f"<0x{byte:02X}>" for byte in range(256)), *string.printable]
    vocab = {letter: place for place, letter in enumerate(dict.fromkeys(letters))}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, unk_token="<unk>", clean_up_tokenization_spaces=False
    )


def test_a_space_between_given_and_sampled_words_is_kept(
    spaced_tokenizer: PreTrainedTokenizerFast,
) -> None:
    sampled = spaced_tokenizer("Alien, Heat", add_special_tokens=False)["input_ids"]
    assert spaced_tokenizer.decode(sampled) == "Alien, Heat"  # begun with a space all the same
    assert continuation(spaced_tokenizer, "Favourites: enjoys", sampled) == " Alien, Heat"


def test_first_words_and_what_follows_as_bytes_are_only_joined(
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    sampled = tiny_tokenizer(" Amélie")["input_ids"]
    assert continuation(tiny_tokenizer, "Likes:", sampled) == " Amélie"


def test_an_opening_begins_where_the_line_before_ended(
    spaced_tokenizer: PreTrainedTokenizerFast,
) -> None:
    *_, second = line_parts(spaced_tokenizer, ["Mood:"], 64, [LineForm(), LineForm()])
    assert spaced_tokenizer.decode([*spaced_tokenizer("war")["input_ids"], *second.opening]) == (
        "war\nMood:"
    )
