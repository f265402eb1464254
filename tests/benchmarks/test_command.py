"""How an experiment script ends: its help, its result, or an error in words."""

from __future__ import annotations

import pytest

from command import status
from rlrf4rec.errors import ConfigError


def _script(given: list[str]) -> int | None:
    if given[0] == "bad":
        raise ConfigError("something good", found="bad", remedy="Give something good.")
    return None if given[0] == "good" else 1


@pytest.mark.parametrize(("arguments", "ended"), [(["good"], 0), (["worse", "more"], 1)])
def test_a_script_ends_with_what_it_returns(arguments: list[str], ended: int) -> None:
    assert status(_script, arguments, least=1) == ended


def test_too_few_arguments_show_the_scripts_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(_script, [], least=1) == 2
    assert capsys.readouterr() == ("", f"{__doc__}\n")
    assert status(_script, ["--help"], least=1) == 0
    assert capsys.readouterr() == (f"{__doc__}\n", "")


def test_an_error_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(_script, ["bad"], least=1) == 2
    said = capsys.readouterr().err
    assert said.startswith("test_command.py: expected something good")
    assert "Give something good." in said
