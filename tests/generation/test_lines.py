"""Texts written line by line, by a real tiny model of each engine."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rlrf4rec.config import GenerationConfig, MachineConfig
from rlrf4rec.generation import Engine, Part, Request, Text, line_parts, open_engine
from rlrf4rec.generation.lines import Line, _Words, line_end_ids
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RLRF4REC_CACHE", str(tmp_path_factory.mktemp("cache")))
        with open_engine(tiny_model_folder, machine, "float32") as opened:
            yield opened


class _NeverOver(Line):
    """Written to the end of the line or the limit, and cut afterwards."""

    def is_over(self, token_ids: Sequence[int]) -> bool:
        return False


class _ManyCommas(_Words):
    """Every fifth token is one: a random model seldom writes its own."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(tokenizer)
        self.piece = lambda token: "," if token % 5 == 0 else str(token)


def _requests() -> list[Request]:
    return [Request(list(range(40 + row, 60 + 2 * row)), [row, 100 + row]) for row in range(4)]


def _write(engine: Engine, parts: Sequence[Part], requests: Sequence[Request]) -> list[list[Text]]:
    return list(engine.sample(requests, CONFIG, parts))


class TestLineByLine:
    @pytest.fixture
    def parts(self, tokenizer: PreTrainedTokenizerBase) -> Sequence[Part]:
        return line_parts(tokenizer, OPENINGS, CONFIG.max_new_tokens)

    def test_every_opening_stands_at_the_beginning_of_its_line(
        self, engine: Engine, parts: Sequence[Part], tokenizer: PreTrainedTokenizerBase
    ) -> None:
        for texts in _write(engine, parts, _requests()):
            for text in texts:
                lines = tokenizer.decode(list(text.token_ids)).split("\n")
                assert len(lines) == 3
                assert lines[1].startswith("Period:")
                assert lines[2].startswith("Mood:")

    def test_a_line_takes_its_share_of_the_tokens_and_no_more(
        self, engine: Engine, parts: Sequence[Part]
    ) -> None:
        given = sum(len(part.opening) for part in parts)
        texts = [text for row in _write(engine, parts, _requests()) for text in row]
        assert all(len(text.token_ids) <= 30 + given for text in texts)
        for text in texts:
            if text.finished:
                assert len(text.token_ids) < 30 + given

    def test_four_users_at_once_are_four_alone(self, engine: Engine, parts: Sequence[Part]) -> None:
        together = _write(engine, parts, _requests())
        assert [_write(engine, parts, [one])[0] for one in _requests()] == together
        single = [
            _write(engine, parts, [Request(one.prompt_ids, [seed])])[0][0]
            for one in _requests()
            for seed in one.seeds
        ]
        assert single == [text for texts in together for text in texts]

    def test_what_nobody_would_keep_need_not_be_drawn(
        self, engine: Engine, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        """Lines of two items at most, ended by the engine where it sees that, and afterwards."""
        lines = [
            replace(line, words=_ManyCommas(tokenizer))
            for line in line_parts(tokenizer, ["Mood:"], 40, [LineForm(max_items=2)] * 2)
        ]
        texts = _write(engine, lines, _requests())
        assert texts == _write(engine, [_NeverOver(**vars(line)) for line in lines], _requests())
        assert any(text.finished for of_user in texts for text in of_user)

    def test_one_line_is_the_engine_itself_stopped_at_the_line_s_end(
        self, engine: Engine, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        until = Part(CONFIG.max_new_tokens, stop_ids=line_end_ids(tokenizer))
        alone = _write(engine, line_parts(tokenizer, [], CONFIG.max_new_tokens), _requests())
        assert alone == _write(engine, [until], _requests())


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
        # As many bytes each, none of them a character by itself.
        (" 부산행, 마더, 곡성, 밀양, 마더", True, 5, " 부산행, 마더, 곡성, 밀양", True),
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
    ids = tokenizer(line, add_special_tokens=False)["input_ids"]
    (part,) = line_parts(tokenizer, [], 64, [LineForm(max_items=max_items)])
    text = part.keep(Text(tuple(ids), ended))
    whole = " Alien (1979; Horror, Sci-Fi)" if kept is None else kept
    assert (tokenizer.decode(list(text.token_ids)), text.finished) == (whole, finished)


def test_a_line_of_titles_with_commas_ends_at_a_semicolon(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """``White`` comes twice and is no item."""
    ids = tokenizer(" Tape, White; Wire, White; Tape, White; Nai", add_special_tokens=False)
    (part,) = line_parts(tokenizer, [], 64, [LineForm(max_items=4, separator=";")])
    text = part.keep(Text(tuple(ids["input_ids"]), False))
    assert tokenizer.decode(list(text.token_ids)) == " Tape, White; Wire, White"
    assert text.finished


@pytest.mark.parametrize(
    ("line", "most", "kept", "over"),
    [
        (" tape, wire; Tape; Tape;", 4, " tape, wire", True),
        (" tape; wire, nails; glue", 3, " tape; wire, nails", False),
        (" tape; wire; glue;", 3, " tape; wire; glue", True),
        (" tape; wi", 3, " tape", False),
    ],
)
def test_short_words_end_at_either_separator(
    tokenizer: PreTrainedTokenizerBase, line: str, most: int, kept: str, over: bool
) -> None:
    ids = tokenizer(line, add_special_tokens=False)["input_ids"]
    (part,) = line_parts(tokenizer, [], 64, [LineForm(max_items=most, separator=",;")])
    text = part.keep(Text(tuple(ids), False))
    assert (tokenizer.decode(list(text.token_ids)), text.finished) == (kept, True)
    assert part.is_over(ids) == over


@pytest.mark.parametrize(
    ("line", "most", "over"),
    [
        (" Alien, Brazil, He", 3, False),
        # Behind the last separator stands what may still become another item.
        (" Alien, Brazil, Alien", 3, False),
        (" Alien, Brazil, Alien,", 4, True),
        (" Alien, Brazil,", 2, True),
        (" 마더, 곡성, 밀양,", 4, False),
        (" Alien, Brazil", 2, False),
        (" Alien (1979; Horror,", 1, False),
        (" Alien, Alien,", None, False),
    ],
)
def test_a_line_is_over_when_what_follows_would_be_cut(
    tokenizer: PreTrainedTokenizerBase, line: str, most: int | None, over: bool
) -> None:
    ids = tokenizer(line, add_special_tokens=False)["input_ids"]
    (part,) = line_parts(tokenizer, [], 64, [LineForm(max_items=most)])
    assert part.is_over(ids) == over


def test_lines_share_the_tokens_as_their_forms_say(tokenizer: PreTrainedTokenizerBase) -> None:
    """30 tokens in shares of 3, 2 and 1."""
    forms = [LineForm(share=3), LineForm(share=2), LineForm(share=1)]
    parts = line_parts(tokenizer, OPENINGS, 30, forms)
    assert [part.max_new_tokens for part in parts] == [15, 10, 5]
    assert tokenizer.decode(list(parts[1].opening)) == "\nPeriod:"


def test_line_ends_are_the_tokens_with_a_line_break(tokenizer: PreTrainedTokenizerBase) -> None:
    ends = line_end_ids(tokenizer)
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert set(newline) <= ends
    assert all("\n" in tokenizer.decode([token]) for token in ends)
    assert tokenizer("a", add_special_tokens=False)["input_ids"][0] not in ends
