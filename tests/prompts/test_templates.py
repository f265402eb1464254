"""Templates are data that is checked when it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rlrf4rec.errors import ConfigError
from rlrf4rec.prompts import check_structure, load_template

SHIPPED = ["generic", "movies", "products"]

TEMPLATE = {
    "domain": "games",
    "system": "Describe what a player prefers.",
    "item": "{title} [{details}]",
    "history": {
        "rated": "{profile}+\n{liked}\n-\n{disliked}\n",
        "unrated": "{profile}Played:\n{history}\n",
    },
    "profile": "Player: {profile}\n",
    "question": "What does this player prefer?",
    "factors": ["Kinds", "Mood"],
    "first_words": "Kinds: this player likes",
    "examples": [{"liked": ["Go (board)"], "answer": "Kinds: this player likes Go\nMood: calm"}],
}


def _write(folder: Path, **changes: object) -> str:
    path = folder / "games.yaml"
    path.write_text(yaml.safe_dump({**TEMPLATE, **changes}), encoding="utf-8")
    return str(path)


def test_a_line_s_form_belongs_to_a_factor(tmp_path: Path) -> None:
    forms = load_template(_write(tmp_path, lines={"Mood": {"share": 3}})).line_forms
    assert [(form.share, form.max_items) for form in forms] == [(1, None), (3, None)]
    with pytest.raises(ConfigError, match=r"lines must name factors, found \['Moods'\]"):
        load_template(_write(tmp_path, lines={"Moods": {"share": 3}}))


def test_a_line_that_names_items_has_one_separator(tmp_path: Path) -> None:
    """Linked items are joined by it."""
    form = {"max_items": 4, "separator": ",;"}
    assert load_template(_write(tmp_path, lines={"Mood": form})).lines["Mood"].separator == ",;"
    with pytest.raises(ConfigError, match="needs one separator, found ',;'"):
        load_template(_write(tmp_path, lines={"Mood": {**form, "names_items": True}}))


def test_what_a_template_does_not_use_leaves_no_trace_in_what_texts_depend_on(
    tmp_path: Path,
) -> None:
    """A setting that is added later must not make the texts of earlier runs stale."""
    plain = load_template(_write(tmp_path, lines={"Mood": {"share": 3}})).model_dump()
    assert plain["lines"]["Mood"] == {"share": 3, "max_items": None, "names_items": False}
    assert "title_characters" not in plain
    forms = {"Mood": {"separator": ";"}}
    used = load_template(_write(tmp_path, lines=forms, title_characters=40)).model_dump()
    assert used["lines"]["Mood"]["separator"] == ";"
    assert used["title_characters"] == 40


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_examples_have_the_form_they_teach(name: str) -> None:
    template = load_template(name)
    assert template.domain == name
    assert template.examples
    for example in template.examples:
        report = check_structure(example.answer, template)
        assert report.ok, (report.reason, example.answer)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_templates_name_the_factors_they_check(name: str) -> None:
    template = load_template(name)
    assert ", ".join(template.factors) in template.system


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_examples_show_every_form(name: str) -> None:
    """A user with low ratings or a profile meets an example that has them, too."""
    template = load_template(name)
    for example in template.examples:
        assert bool(example.disliked) == template.history.shows_disliked
        assert example.profile


def test_own_template_by_path(tmp_path: Path) -> None:
    template = load_template(_write(tmp_path))
    assert template.factors == ["Kinds", "Mood"]
    assert template.examples[0].disliked == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"item": "{title}"}, "item must use exactly the placeholders"),
        ({"item": "{title} {details} {year}"}, "year"),
        ({"item": "{title} {details} {}"}, "item must use"),
        ({"item": "{title.upper} {details}"}, "item must use"),
        ({"item": "{title} {details"}, "expected '}'"),
        ({"profile": "Player"}, "profile must use"),
        ({"history": {"rated": "{liked}", "unrated": "{profile}{history}"}}, "history.rated"),
        (
            {"history": {"rated": "{profile}{liked}{disliked}", "unrated": "{profile}"}},
            "history.unrated",
        ),
        ({"history": {"rated": "{profile}{liked}{disliked}"}}, "unrated"),
        (
            {"history": {"rated": "{profile}{disliked}", "unrated": "{profile}{history}"}},
            "['liked', 'profile'], and may use ['disliked'], found ['disliked', 'profile']",
        ),
        ({"ranking": {"question": "What?"}}, "ranking.question must use"),
        ({"first_words": "Moods: this player likes"}, "first_words must start with 'Kinds:'"),
        ({"examples": [{"liked": ["Go"], "answer": "Go"}]}, "must start with first_words"),
        ({"examples": [{"liked": [], "answer": "Kinds: this player likes"}]}, "examples.0.liked"),
        ({"factors": []}, "factors"),
        ({"factors": ["Kinds", "Kinds"]}, "factors must differ"),
        ({"sytem": "Describe."}, "sytem"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    path = _write(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        load_template(path)
    assert told in caught.value.found
    assert path in caught.value.found


def test_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="generic, movies, products") as caught:
        load_template("moveis")
    assert caught.value.found == "'moveis'"


def test_a_worked_example_must_have_the_form_it_teaches(tmp_path: Path) -> None:
    first = TEMPLATE["first_words"]
    path = _write(tmp_path, examples=[{"liked": ["Go"], "answer": f"{first} war"}])
    with pytest.raises(ConfigError, match="example 1: a factor is missing"):
        load_template(path)


@pytest.mark.parametrize(
    "content", [b"", b"- 1", b"domain: [", b"\xff\xfe\x00", b"domain: a\ndomain: b\n"]
)
def test_files_that_are_no_template(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="a valid prompt template"):
        load_template(str(path))


def test_a_folder_is_no_template(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a prompt template"):
        load_template(str(tmp_path))
