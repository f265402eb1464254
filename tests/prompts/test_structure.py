"""The check of an answer's form: each reason, and the numbers beside it."""

from __future__ import annotations

import pytest

from rlrf4rec.prompts import Template, check_structure
from rlrf4rec.prompts.structure import MAX_LINE_CHARACTERS


def _template(**changes: object) -> Template:
    return Template.model_validate(
        {
            "domain": "films",
            "system": "Describe the viewer.",
            "item": "{title} ({details})",
            "history": {
                "rated": "{profile}{liked}{disliked}",
                "unrated": "{profile}{history}",
            },
            "profile": "{profile}",
            "question": "What does this viewer prefer?",
            "factors": ["Genres", "Mood"],
            "first_words": "Genres:",
            **changes,
        }
    )


TEMPLATE = _template()
GOOD = "Genres: drama and noir\nMood: dark"


def test_a_well_formed_answer() -> None:
    """6 words, all different."""
    report = check_structure(GOOD, TEMPLATE)
    assert report.ok
    assert report.reason == ""
    assert report.coverage == 1
    assert report.repetition == 0


@pytest.mark.parametrize(
    "answer",
    [
        f"\n{GOOD}\n\n",
        "Genres: drama\n\n   Mood: dark  ",
        "Genres: drama\r\nMood: dark",
        "Genres: drama: noir\nMood: dark",  # a colon in the content
        "Genres: 1940s\nMood: 7",
        "Genres: comédie française\nMood: naïve, Amélie",  # Latin letters with accents
    ],
)
def test_what_is_still_well_formed(answer: str) -> None:
    assert check_structure(answer, TEMPLATE).reason == ""


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "a factor is missing"),
        ("I do not know.", "a factor is missing"),
        ("Genres: drama and noir", "a factor is missing"),
        ("Genres: drama\nMood:", "a factor is missing"),
        ("Genres: drama\nMood: ...", "a factor is missing"),
        ("Genres: drama\nmood: dark", "a factor is missing"),
        ("Genres: drama Mood: dark", "a factor is missing"),
        ("Mood: dark\nGenres: drama", "lines beyond one for each factor, in order"),
        (f"{GOOD}\nMood: light", "lines beyond one for each factor, in order"),
        (f"{GOOD}\nI hope this helps!", "lines beyond one for each factor, in order"),
        (f"Sure.\n{GOOD}", "lines beyond one for each factor, in order"),
        ("Genres: drama drama drama drama\nMood: drama", "words are repeated"),
        ("Genres: Драма и комедия\nMood: dark", "another script than the prompt's"),
    ],
)
def test_each_way_to_be_malformed(answer: str, reason: str) -> None:
    report = check_structure(answer, TEMPLATE)
    assert not report.ok
    assert report.reason == reason


def test_a_list_repeats_no_item() -> None:
    """Only a line with a form of its own is a list; case does not tell items apart."""
    lists = _template(lines={"Genres": {"max_items": 4}})
    said = "Genres: drama, war, film noir, Drama\nMood: dark, dark light"
    assert check_structure(said, TEMPLATE).ok
    assert check_structure(said, lists).reason == "an item is repeated"
    assert check_structure(said.replace(", Drama", ", drama and war"), lists).ok


def test_items_of_a_list_stand_between_its_own_separators() -> None:
    lists = _template(lines={"Genres": {"max_items": 4, "separator": ";"}})
    said = "Genres: Tape, White; Wire, White\nMood: dark"
    assert check_structure(said, lists).ok
    assert check_structure(said.replace(";", ","), lists).ok
    repeated = said.replace("Wire", "Tape")
    assert check_structure(repeated, lists).reason == "an item is repeated"


def test_a_list_of_short_words_may_mix_its_separators() -> None:
    lists = _template(lines={"Genres": {"max_items": 4, "separator": ",;"}})
    said = "Genres: drama, war; film noir\nMood: dark"
    assert check_structure(said, lists).ok
    repeated = said.replace("film noir", "Drama")
    assert check_structure(repeated, lists).reason == "an item is repeated"


def test_a_list_may_be_long_but_not_an_item_of_it() -> None:
    lists = _template(lines={"Genres": {"max_items": 4}})
    item = "".join(chr(ord("a") + place % 26) for place in range(MAX_LINE_CHARACTERS))
    for length, reason in ((0, ""), (1, "a line is too long")):
        said = f"Genres: {item}{'x' * length}, {item[1:]}\nMood: dark"
        assert check_structure(said, lists).reason == reason
    assert check_structure(said, TEMPLATE).reason == "a line is too long"


def test_line_length_counts_characters() -> None:
    """``Genres: `` is 8 characters; distinct numbers keep repetition out of it."""
    words = " ".join(str(number) for number in range(1000, 1100))
    for length, reason in (
        (MAX_LINE_CHARACTERS, ""),
        (MAX_LINE_CHARACTERS + 1, "a line is too long"),
    ):
        line = "Genres: " + words[: length - 8]
        assert len(line) == length
        assert check_structure(f"{line}\nMood: dark", TEMPLATE).reason == reason


def test_an_answer_that_was_cut_off() -> None:
    report = check_structure(GOOD, TEMPLATE, finished=False)
    assert not report.ok
    assert report.reason == "cut at the token limit"
    # What is worse is said first.
    assert check_structure("Genres:", TEMPLATE, finished=False).reason == "a factor is missing"


def test_coverage_and_repetition_by_hand() -> None:
    """The docstring's example: words genres, drama ×4, so 2 of 5 are new."""
    report = check_structure("Genres: drama, drama, drama, drama", TEMPLATE)
    assert report.coverage == 0.5
    assert report.repetition == pytest.approx(3 / 5)
    assert check_structure("", TEMPLATE).repetition == 0


def test_repetition_ignores_case_and_allows_half() -> None:
    """genres, drama, mood and then drama ×3: 3 of 6 words were said before."""
    answer = "Genres: drama Drama\nMood: DRAMA drama"
    assert check_structure(answer, TEMPLATE).repetition == pytest.approx(0.5)
    assert check_structure(answer, TEMPLATE).ok
    assert not check_structure(f"{answer} drama", TEMPLATE).ok


def test_titles_are_in_whatever_script_the_catalogue_has_them() -> None:
    """What the LLM says in its own words is in the prompt's."""
    named = _template(lines={"Genres": {"max_items": 5, "names_items": True}})
    assert check_structure("Genres: Сталкер, Зеркало, Солярис\nMood: slow, dark", named).ok
    report = check_structure("Genres: Сталкер, Зеркало\nMood: медленно, темно", named)
    assert report.reason == "another script than the prompt's"


def test_a_word_keeps_its_vowel_signs() -> None:
    """Five different words; cut at every sign, three of ten pieces would be repeated."""
    answer = "Genres: पसंदीदा दिल\nMood: दुनिया"
    assert check_structure(answer, _template(question="क्या?")).repetition == 0


def test_a_template_in_another_script_expects_that_script() -> None:
    russian = _template(
        system="Опиши зрителя.",
        question="Что любит этот зритель?",
        factors=["Жанры", "Тон"],
        first_words="Жанры:",
    )
    assert check_structure("Жанры: драма и нуар\nТон: мрачный", russian).ok
