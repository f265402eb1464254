"""A small, complete run's outcome, and a headless browser to look at its report."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlrf4rec.evaluation.results import ComparisonRow, Results, RewardRow, SystemRow
from rlrf4rec.evaluation.stories import CurvePoint, RankedItem, ReadItem, RewardedText, Story

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

MEANS = {
    "id": 0.570,
    "profile": 0.616,
    "history_text": 0.603,
    "shuffled": 0.568,
    "random_pairs": 0.580,
    "untuned": 0.581,
    "best_of_n": 0.592,
    "tuned_round_1": 0.588,
    "tuned_round_2": 0.594,
}


def _systems() -> list[SystemRow]:
    rows = []
    counts = {"n_users": 943, "n_lists": 18212}
    for kind, lift in (("popular", 0.0), ("uniform", 0.14)):
        for metric, factor in (("ndcg@5", 1.0), ("map@5", 0.9), ("hr@1", 0.8)):
            for system, mean in (("random", 0.384), ("popularity", 0.482), ("llm_zero_shot", 0.41)):
                value = factor * (mean + lift)
                rows.append(
                    SystemRow(
                        system=system, backbone=None, metric=metric, mean=value,
                        ci95=(value - 0.004, value + 0.004), kind=kind, **counts,
                    )
                )  # fmt: skip
            for shift, backbone in enumerate(("dlcm", "prm", "setrank")):
                for system, mean in MEANS.items():
                    value = factor * (mean + lift + 0.004 * shift)
                    rows.append(
                        SystemRow(
                            system=system, backbone=backbone, metric=metric, mean=value,
                            ci95=(value - 0.006, value + 0.005), kind=kind, **counts,
                        )
                    )  # fmt: skip
    return rows


@pytest.fixture
def results() -> Results:
    """Two kinds of lists, three metrics, three backbones, two rounds."""
    comparisons = [
        ComparisonRow(
            a=a, b=b, backbone=backbone, metric=metric, diff=diff + shift,
            ci95=(diff + shift - 0.005, diff + shift + 0.005),
            p=0.0009995 if abs(diff + shift) > 0.005 else 0.212,
            n_users=943, n_lists=18212, kind="popular",
        )
        for metric in ("ndcg@5", "map@5")
        for a, b, diff in (
            ("tuned_round_2", "untuned", 0.013),
            ("tuned_round_1", "untuned", 0.006),
            ("shuffled", "untuned", -0.013),
        )
        for backbone, shift in (("dlcm", 0.0), ("prm", -0.002), ("setrank", 0.001))
    ]  # fmt: skip
    rewards = [
        RewardRow(
            round=number, split=split, mean=-1.9 + 0.03 * number, best=-1.82 + 0.025 * number,
            worst=-1.97 + 0.04 * number, structure_ok=0.71 + 0.1 * number if number else None,
        )
        for split in ("train", "validation")
        for number in range(3)
    ]  # fmt: skip
    seconds = {f"generate/{n}": 1510.2 - 100 * n for n in range(3)}
    seconds |= {f"score/{n}": 220.5 + n for n in range(3)} | {"tune/0": 3725.0, "tune/1": 3600.4}
    seconds |= {"prepare": 0.8, "evaluate": 912.0, "encode/0": 65.1}
    return Results(
        dataset="ml-100k",
        lists="popular",
        folds=5,
        seeds=[0, 1, 2],
        n_users=943,
        n_lists=20112,
        n_lists_without_positive=1900,
        systems=_systems(),
        comparisons=comparisons,
        rewards=rewards,
        seconds=seconds,
        config={
            "model": {"name": "packaged/smollm2-135m-instruct"},
            "generation": {"n_samples": 10},
            "rounds": {"n_rounds": 2},
            "reward": {"backbone": "prm"},
            "alignment": {"learning_rate": 5e-7},
        },
    )


@pytest.fixture
def stories() -> list[Story]:
    titles = [
        "Fargo (1996)", "Monty Python's Life of Brian (1979)", "Brazil (1985)",
        "Wallace & Gromit: The Best of Aardman Animation (1996)", "Star Wars (1977)",
        "Cook, the Thief, His Wife & Her Lover, The (1989)", "Dolores Claiborne (1994)",
        "Delicatessen (1991)", "Twelve Monkeys (1995)", "Jean de Florette (1986)",
    ]  # fmt: skip
    before = (
        "Genres: this viewer enjoys comedy, drama and animation.\n"
        "Directors and cast: films by Terry Gilliam and the Coen brothers."
    )
    after = (
        "Genres: this viewer enjoys dark comedy and inventive science fiction.\n"
        "Mood: ironic, dreamlike, a little bleak.\nPeriod: 1979 to 1996."
    )
    history = [ReadItem(title, float(3 + index % 3)) for index, title in enumerate(titles)]
    ranked = [RankedItem(title, index in (1, 4, 8)) for index, title in enumerate(titles)]
    return [
        Story(
            user_id=user_id,
            history=history,
            best=RewardedText(before, -1.742),
            worst=RewardedText("Genres: this viewer enjoys enjoys enjoys enjoys the the", -1.981),
            text_before=before,
            text_after=after,
            list_before=ranked,
            list_after=ranked[4:] + ranked[:4],
            note="Ranked by PRM, seed 0.",
        )
        for user_id in ("196", "22")
    ]


@pytest.fixture
def curves() -> dict[str, list[CurvePoint]]:
    rng = np.random.default_rng(0)
    found = {}
    for index, name in enumerate(("round 1, half 0", "round 1, half 1", "round 2, half 0")):
        steps = range(1, 180)
        margin = [0.02 * step**0.5 * (1 + 0.2 * index) for step in steps]
        found[name] = [
            CurvePoint(
                step,
                loss=0.69 - m / 3,
                margin=m + 0.05 * rng.standard_normal(),
                accuracy=float(np.clip(0.5 + m + 0.08 * rng.standard_normal(), 0, 1)),
            )
            for step, m in zip(steps, margin, strict=True)
        ]
    return found


class Browser:
    """Headless Chromium over its debugging pipe (messages end with a NUL byte)."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}",
        ]  # fmt: skip
        # The browser expects its pipe at descriptors 3 and 4; the shell moves it there.
        self._process = subprocess.Popen(
            ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null', CHROMIUM, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._pipe = self._process.stdin, self._process.stdout
        self._rest = b""
        self._sent = 0
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session: str | None = self.call(
            "Target.attachToTarget", targetId=target, flatten=True
        )["sessionId"]
        self.call("Network.enable")
        self.call("Page.enable")

    _session: str | None = None

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._pipe[0].write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._sent:
            pass
        assert "error" not in answer, answer
        return dict(answer["result"])

    def open(self, page: Path, width: int, height: int, dark: bool = False) -> None:
        """Show a file at a viewport's size, in a colour scheme."""
        self.requests.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=page.as_uri())
        while self.evaluate("document.readyState") != "complete":
            pass

    def evaluate(self, script: str) -> Any:
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, whole: bool = False) -> bytes:
        found = self.call(
            "Page.captureScreenshot", captureBeyondViewport=whole, **self._clip(whole)
        )
        return base64.b64decode(found["data"])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
        for end in self._pipe:
            end.close()

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {**size, "scale": 1}}

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = self._pipe[1].read(1 << 16)
            assert chunk, "the browser has closed its pipe"
            self._rest += chunk
        message, self._rest = self._rest.split(b"\0", 1)
        event = dict(json.loads(message))
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(event["params"]["request"]["url"])
        return event


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()
