"""Answers written line by line, by a real tiny model of each engine."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rlrf4rec.config import GenerationConfig, MachineConfig
from rlrf4rec.generation import Engine, LineWriter, Request, Text, open_engine
from rlrf4rec.generation.lines import line_end_ids, line_seed
from rlrf4rec.prompts.templates import LineForm

CONFIG = GenerationConfig(max_new_tokens=30, temperature=1.0)
OPENINGS = ["Period:", "Mood:"]
ENGINES = ["transformers"]
if importlib.util.find_spec("openvino_genai") and importlib.util.find_spec("optimum"):
    ENGINES.append("openvino")


@pytest.fixture(scope="module")
def tokenizer(tiny_model_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_model_folder)


@pytest.fixture(scope="module", params=ENGINES)
def engine(
    request: pytest.FixtureRequest,
    tiny_model_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Engine]:
    machine = MachineConfig(device="cpu", engine=request.param)
    with (
        pytest.MonkeyPatch.context() as patch,
        open_engine(tiny_model_folder, machine, "float32", keep_export=False) as opened,
    ):
        patch.setenv("RLRF4REC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield opened


def _requests() -> list[Request]:
    return [Request(list(range(40 + row, 60 + 2 * row)), [row, 100 + row]) for row in range(4)]


class TestLineWriter:
    def test_every_opening_stands_at_the_beginning_of_its_line(
        self, engine: Engine, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        for texts in LineWriter(engine, tokenizer, OPENINGS).sample(_requests(), CONFIG):
            for text in texts:
                lines = tokenizer.decode(list(text.token_ids)).split("\n")
                assert len(lines) == 3
                assert lines[1].startswith("Period:")
                assert lines[2].startswith("Mood:")

    def test_a_line_takes_its_share_of_the_tokens_and_no_more(
        self, engine: Engine, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        given = sum(len(tokenizer(f"\n{words}")["input_ids"]) for words in OPENINGS)
        texts = [
            text
            for row in LineWriter(engine, tokenizer, OPENINGS).sample(_requests(), CONFIG)
            for text in row
        ]
        assert all(len(text.token_ids) <= 30 + given for text in texts)
        for text in texts:
            if text.finished:
                assert len(text.token_ids) < 30 + given

    def test_four_users_at_once_are_four_alone(
        self, engine: Engine, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        writer = LineWriter(engine, tokenizer, OPENINGS)
        together = writer.sample(_requests(), CONFIG)
        assert [writer.sample([one], CONFIG)[0] for one in _requests()] == together
        single = [
            writer.sample([Request(one.prompt_ids, [seed])], CONFIG)[0][0]
            for one in _requests()
            for seed in one.seeds
        ]
        assert single == [text for texts in together for text in texts]

    def test_one_line_is_the_engine_itself_stopped_at_the_line_s_end(
        self, engine: Engine, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        alone = LineWriter(engine, tokenizer, []).sample(_requests(), CONFIG)
        assert alone == engine.sample(_requests(), CONFIG, line_end_ids(tokenizer))


class _Writes:
    """An engine that writes a given line, to show what becomes of it."""

    def __init__(self, token_ids: list[int], finished: bool) -> None:
        self._text = Text(tuple(token_ids), finished)
        self.budgets: list[int] = []

    def sample(
        self, requests: Sequence[Request], settings: GenerationConfig, stop_ids: object = ()
    ) -> list[list[Text]]:
        self.budgets.append(settings.max_new_tokens)
        return [[self._text for _ in request.seeds] for request in requests]


@pytest.mark.parametrize(
    ("line", "ended", "max_items", "kept", "finished"),
    [
        (" Alien, Brazil, Heat", True, 2, " Alien, Brazil", True),
        (" Alien, Brazil", True, 2, " Alien, Brazil", True),
        (" Alien, Brazil, He", False, 4, " Alien, Brazil", True),
        (" Alien and Bra", False, 4, " Alien and Bra", False),
        # Commas in brackets belong to an item.
        (" Alien (1979; Horror, Sci-Fi), Brazil (1985; Sc", False, 4, None, True),
        # An item that was named before ends the line.
        (" Alien, Brazil, alien, Heat", True, 4, " Alien, Brazil", True),
        (" Alien, Alien", True, 4, " Alien", True),
        (" Alien, Brazil, Brazil, He", False, 2, " Alien, Brazil", True),
        (" Alien, Brazil, Alien", True, None, " Alien, Brazil, Alien", True),
        (" Alien, Brazil, He", False, None, " Alien, Brazil, He", False),
    ],
)
def test_a_line_ends_with_a_whole_item(
    tokenizer: PreTrainedTokenizerBase,
    line: str,
    ended: bool,
    max_items: int | None,
    kept: str | None,
    finished: bool,
) -> None:
    written = _Writes(tokenizer(line, add_special_tokens=False)["input_ids"], ended)
    writer = LineWriter(written, tokenizer, [], [LineForm(max_items=max_items)])
    ((text,),) = writer.sample([Request([1], [0])], CONFIG)
    whole = " Alien (1979; Horror, Sci-Fi)" if kept is None else kept
    assert (tokenizer.decode(list(text.token_ids)), text.finished) == (whole, finished)


def test_a_line_of_titles_with_commas_ends_at_a_semicolon(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """``White`` comes twice and is no item."""
    ids = tokenizer(" Tape, White; Wire, White; Tape, White; Nai", add_special_tokens=False)
    form = LineForm(max_items=4, separator=";")
    writer = LineWriter(_Writes(ids["input_ids"], False), tokenizer, [], [form])
    ((text,),) = writer.sample([Request([1], [0])], CONFIG)
    assert tokenizer.decode(list(text.token_ids)) == " Tape, White; Wire, White"
    assert text.finished


def test_lines_share_the_tokens_as_their_forms_say(tokenizer: PreTrainedTokenizerBase) -> None:
    """30 tokens in shares of 3, 2 and 1."""
    engine = _Writes([7], True)
    forms = [LineForm(share=3), LineForm(share=2), LineForm(share=1)]
    LineWriter(engine, tokenizer, OPENINGS, forms).sample(_requests(), CONFIG)
    assert engine.budgets == [15, 10, 5]


def test_line_ends_are_the_tokens_with_a_line_break(tokenizer: PreTrainedTokenizerBase) -> None:
    ends = line_end_ids(tokenizer)
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert set(newline) <= ends
    assert all("\n" in tokenizer.decode([token]) for token in ends)
    assert tokenizer("a", add_special_tokens=False)["input_ids"][0] not in ends


def test_a_line_s_seed_comes_from_the_sample_s() -> None:
    assert line_seed(7, 0) == 7
    seeds = {line_seed(seed, line) for seed in range(50) for line in range(4)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**32 for seed in seeds)
