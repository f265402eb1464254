"""Prompt templates: one YAML file a domain, checked when it is loaded."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlrf4rec.config.loading import parse_yaml
from rlrf4rec.errors import ConfigError

_FOLDER = Path(__file__).parent / "domains"

_PLACEHOLDERS = {
    "item": {"title", "details"},
    "profile": {"profile"},
    "history.rated": {"profile", "liked", "disliked"},
    "history.unrated": {"profile", "history"},
    "ranking.question": {"text"},
}
_MAY_LACK = {"history.rated": {"disliked"}}


class HistoryForm(BaseModel):
    """How a history is laid out, with ratings and without.

    Attributes:
        rated: holds the liked items and, unless the LLM is not to read them, the others.
        unrated: holds them all; also for a user without a liked item whose others ``rated`` leaves
            out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rated: str
    unrated: str

    @property
    def shows_disliked(self) -> bool:
        """Whether ``rated`` holds the items that were not liked."""
        return "disliked" in _fields(self.rated)


class Example(BaseModel):
    """A worked example: an invented user and a well-formed answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    liked: list[str] = Field(min_length=1)
    disliked: list[str] = []
    profile: str = ""
    answer: str


class LineForm(BaseModel):
    """How much one factor's line may hold.

    Attributes:
        share: of ``generation.max_new_tokens``, relative to the other lines' shares.
        max_items: the line ends after this many items (`prompts.items`), and before one that it
            repeats; one that the token limit cuts ends with its last whole item. None: items are
            not looked at.
        names_items: its items are items of the catalogue, to be linked before a text is encoded
            (`knowledge.linking`).
        separator: what stands between items; a semicolon where titles hold commas, and either of
            both (``,;``) on a line of short words behind one of titles, where an LLM takes the one
            for the other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: Annotated[int, Field(ge=1)] = 1
    max_items: Annotated[int, Field(ge=1)] | None = None
    names_items: bool = False
    # Left out of a dump where it is the default, so that older runs' texts stay valid.
    separator: Literal[",", ";", ",;"] = Field(",", exclude_if=lambda value: value == ",")

    @model_validator(mode="after")
    def _named_items_have_one(self) -> LineForm:
        if self.names_items and len(self.separator) > 1:
            raise ValueError(
                f"a line that names items needs one separator, found {self.separator!r}"
            )
        return self


class Ranking(BaseModel):
    """How the LLM is asked for an item's title (system ``llm_zero_shot``).

    The defaults fit any domain, so that a template of one's own may leave this out.

    Attributes:
        system: the system message.
        question: holds the user's preference text; asked without it, it calibrates.
        first_words: the answer's beginning; a title follows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    system: str = "You recommend one thing that a person would enjoy."
    question: str = "{text}\n\nWhat would this person enjoy?"
    first_words: str = "This person would enjoy:"


class Template(BaseModel):
    """What a domain asks of the LLM.

    Attributes:
        title_characters: titles are shown up to so many characters, to the last whole word; None:
            whole. Shops' titles are long, and a small LLM copies long ones badly.
        factors: the scenario factors; an answer has one line ``Factor: …`` for each, in this order.
        lines: of factors whose line has a form of its own; see `line_forms`.
        first_words: the answer's beginning, given to the LLM; it starts with the first factor.
        ranking: how it is asked to recommend, after it has written.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    domain: str
    system: str
    item: str
    title_characters: Annotated[int, Field(ge=10)] | None = Field(
        None, exclude_if=lambda value: value is None
    )
    history: HistoryForm
    profile: str
    question: str
    factors: Annotated[list[str], Field(min_length=1)]
    lines: dict[str, LineForm] = {}
    first_words: str
    examples: list[Example] = []
    ranking: Ranking = Ranking()

    @property
    def line_forms(self) -> list[LineForm]:
        """One form a factor, in the order of the factors."""
        return [self.lines.get(factor, LineForm()) for factor in self.factors]

    @model_validator(mode="after")
    def _placeholders_fit(self) -> Template:
        texts = {
            "item": self.item,
            "profile": self.profile,
            "history.rated": self.history.rated,
            "history.unrated": self.history.unrated,
            "ranking.question": self.ranking.question,
        }
        for name, text in texts.items():
            found, optional = _fields(text), _MAY_LACK.get(name, set())
            if found | optional != _PLACEHOLDERS[name]:
                needed = sorted(_PLACEHOLDERS[name] - optional)
                also = f", and may use {sorted(optional)}" if optional else ""
                raise ValueError(
                    f"{name} must use exactly the placeholders {needed}{also}, "
                    f"found {sorted(found)}"
                )
        if any(":" in factor or factor != factor.strip() for factor in self.factors):
            raise ValueError("factors must have no colon and no space around them")
        if len(set(self.factors)) < len(self.factors):
            raise ValueError("factors must differ from each other")
        unknown = sorted(set(self.lines) - set(self.factors))
        if unknown:
            raise ValueError(f"lines must name factors, found {unknown}")
        if not self.first_words.startswith(f"{self.factors[0]}:"):
            raise ValueError(f"first_words must start with '{self.factors[0]}:'")
        for example in self.examples:
            if not example.answer.startswith(self.first_words):
                raise ValueError("each example's answer must start with first_words")
        return self


def _fields(text: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}


def load_template(name: str) -> Template:
    """Load a shipped domain by name, or a YAML file by path.

    Raises:
        ConfigError: no such template, or placeholders missing or unknown.
    """
    shipped = sorted(path.stem for path in _FOLDER.glob("*.yaml"))
    path = _FOLDER / f"{name}.yaml" if name in shipped else Path(name)
    try:
        template = Template.model_validate(parse_yaml(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(
            f"a prompt template: {', '.join(shipped)}, or the path of a YAML file",
            found=repr(name),
            remedy="Set prompt.template to one of these.",
        ) from error
    except (yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        raise ConfigError(
            "a valid prompt template",
            found=f"{path}: {error}",
            remedy="Compare it with the shipped movies.yaml.",
        ) from error
    _require_well_formed_examples(template, path)
    return template


def _require_well_formed_examples(template: Template, path: Path) -> None:
    from rlrf4rec.prompts.structure import check_structure

    for number, example in enumerate(template.examples, start=1):
        report = check_structure(example.answer, template)
        if not report.ok:
            raise ConfigError(
                "worked examples whose answers have the form that is asked for",
                found=f"{path}: example {number}: {report.reason}",
                remedy="An LLM copies the form of the examples: mend the answer.",
            )
