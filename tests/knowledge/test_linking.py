"""Items that a text names, in the catalogue's words; worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlrf4rec.knowledge.linking import ItemLinker

TITLES = [
    "Alien",
    "The Good, the Bad and the Ugly",
    "Sabrina",
    "Sabrina",
    "Seven (Se7en)",
    "Heat",
    "20,000 Leagues",
]
TEXTS = [
    "Alien (1979; Horror)",
    "The Good, the Bad and the Ugly (1966; Western)",
    "Sabrina (1954; Comedy)",
    "Sabrina (1995; Romance)",
    "Seven (Se7en) (1995; Crime)",
    "Heat",
    "20,000 Leagues (1954; Adventure)",
]


def _linker() -> ItemLinker:
    return ItemLinker(TITLES, TEXTS, {"Favourites": ","})


@pytest.mark.parametrize(
    ("said", "linked"),
    [
        ("Alien", "Alien (1979; Horror)"),
        # Details that the LLM made up give way, as does its spelling.
        ("ALIEN  (1992; Comedy, Romance)", "Alien (1979; Horror)"),
        ("Alien, Aliens IX, Heat", "Alien (1979; Horror), Heat"),
        ("Heat, Alien, heat", "Heat, Alien (1979; Horror)"),
        (
            "Alien, The Good, The Bad and The Ugly (1966), Heat",
            "Alien (1979; Horror), The Good, the Bad and the Ugly (1966; Western), Heat",
        ),
        ("Seven (Se7en) (1995; Drama)", "Seven (Se7en) (1995; Crime)"),
        ("Seven (Se7en)", "Seven (Se7en) (1995; Crime)"),
        # A comma within a title is where a line is cut, and put together again with a space.
        ("20,000 Leagues, Heat", "20,000 Leagues (1954; Adventure), Heat"),
        # Of two with one title, the one whose details are like those said; else the first.
        ("Sabrina (1995)", "Sabrina (1995; Romance)"),
        ("Sabrina", "Sabrina (1954; Comedy)"),
        # A bracket that nobody closed.
        ("Alien (1979", "Alien (1979; Horror)"),
    ],
)
def test_an_item_stands_as_the_catalogue_has_it(said: str, linked: str) -> None:
    assert _linker().link(f"Favourites: {said}") == f"Favourites: {linked}"


def test_other_lines_stay_as_they_are() -> None:
    text = "Mood: Alien, strange\nSome words\nFavourites: Heat\nGenres: Horror (dark)"
    assert _linker().link(text) == text


def test_a_line_that_names_nothing_known_is_left_out() -> None:
    linker = _linker()
    assert linker.link("Favourites: Aliens IX, (, \nMood: dark") == "Mood: dark"
    assert linker.link("Favourites:") == ""
    assert linker.link("") == ""


def test_without_lines_that_name_items_nothing_changes() -> None:
    text = "Favourites: Aliens IX (1979)\n"
    assert ItemLinker(TITLES, TEXTS, {}).link(text) == text


@given(st.text(alphabet="Alien(,): \nHeatSabr1995\u0130", max_size=80))
def test_linking_twice_is_linking_once(content: str) -> None:
    """What is linked is the catalogue's, whatever an LLM writes."""
    linked = _linker().link(f"Favourites: {content}")
    assert _linker().link(linked) == linked


PRODUCTS = [
    "Foil Tape, 2-Inch by 50-Yard, Silver",
    "Foil Tape, 3-Inch by 50-Yard, Silver",
    "Tubing, Clear",
    "Brass Tube Fitting, Half-Union, 3/8 Flare",
]


def _shop() -> ItemLinker:
    """Titles are shown up to 20 characters: ``Foil Tape, 2-Inch by``, ``Brass Tube Fitting``."""
    texts = [f"{title} (Maker)" for title in PRODUCTS]
    return ItemLinker(PRODUCTS, texts, {"Products": ";"}, title_characters=20)


@pytest.mark.parametrize(
    ("said", "linked"),
    [
        # As shown, as it is, and in a catalogue's other words.
        ("Foil Tape, 3-Inch by", [1]),
        ("Foil Tape, 3-Inch by 50-Yard, Silver; Tubing, Clear", [1, 2]),
        ("Foil Tape, 2-Inch by (3M); foil tape, 2-inch by", [0]),
        # Two of three words, three of four; two of four are no more than half.
        ("Foil Tape, 3-Inch", [1]),
        ("Luxury Brass Tube Fitting", [3]),
        ("Luxury Tube Fitting Machine", []),
        # Each guessed at by itself: together, one would swallow the other.
        ("Brass Fitting; Foil Tape, 2-Inch; Tape", [3, 0]),
        # Of two that are alike, the first that was read.
        ("Foil Tape", [1]),
        # Words that tell too little.
        ("by", []),
        ("", []),
    ],
)
def test_an_item_that_was_read_is_known_by_most_of_its_words(said: str, linked: list[int]) -> None:
    """Products 1, 0 and 3 were read, 2 is in the catalogue only."""
    found = _shop().link(f"Products: {said}", [1, 0, 3])
    items = "; ".join(f"{PRODUCTS[item]} (Maker)" for item in linked)
    assert found == (f"Products: {items}" if linked else "")


def test_what_was_not_read_is_linked_by_its_whole_title_only() -> None:
    assert _shop().link("Products: Foil Tape, 3-Inch; Tubing, Clear", [2]) == (
        "Products: Tubing, Clear (Maker)"
    )


def test_of_products_that_are_shown_alike_the_one_that_was_read_is_meant() -> None:
    titles = ["Foil Tape, 2-Inch, Silver", "Foil Tape, 2-Inch, Black"]
    linker = ItemLinker(titles, titles, {"Products": ";"}, title_characters=18)
    said = "Products: Foil Tape, 2-Inch"
    assert linker.link(said, [1]) == "Products: Foil Tape, 2-Inch, Black"
    assert linker.link(said, [0]) == linker.link(said) == "Products: Foil Tape, 2-Inch, Silver"
    assert linker.link(f"Products: {titles[0]}", [1]) == f"Products: {titles[0]}"


def test_whole_titles_are_not_guessed() -> None:
    """A film's title is short, and the LLM was shown all of it."""
    assert _linker().link("Favourites: The Good, the Bad", range(6)) == ""
