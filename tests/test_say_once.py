"""A log that does not repeat itself."""

from __future__ import annotations

import logging

import pytest

from rlrf4rec.say_once import say_once


def test_each_message_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    say_once.cache_clear()
    caplog.set_level(logging.INFO)
    for message in ("slow", "slow", "slower", "slow"):
        say_once(message)
    say_once("slow too", logging.INFO)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "slow"),
        ("WARNING", "slower"),
        ("INFO", "slow too"),
    ]
