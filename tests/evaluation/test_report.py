import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from rlrf4rec.evaluation.report import main_metric, render_report, write_report
from rlrf4rec.evaluation.results import Results
from rlrf4rec.evaluation.stories import CurvePoint, RankedItem, ReadItem, RewardedText, Story

ATTACK = '</title><script>alert("x")</script><img src=x onerror=alert(1)>\u202egnp\x00'


class _Tags(HTMLParser):
    """Every start tag with its attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def empty(results) -> Results:
    cleared = {"systems": [], "comparisons": [], "rewards": [], "seconds": {}, "config": {}}
    return results.model_copy(update={**cleared, "n_users": 0, "n_lists": 0})


def test_foreign_text_cannot_become_markup(results):
    story = Story(
        user_id=ATTACK,
        history=[ReadItem(ATTACK, 4.0)],
        best=RewardedText(ATTACK, 0.5),
        worst=RewardedText(ATTACK, None),
        text_before=ATTACK,
        text_after=ATTACK,
        list_before=[RankedItem(ATTACK, True)],
        list_after=[RankedItem(ATTACK, True)],
        note=ATTACK,
    )
    rows = [row.model_copy(update={"backbone": ATTACK}) for row in results.systems]
    rows[0] = rows[0].model_copy(update={"system": ATTACK, "kind": ATTACK})
    config = {"model": {"name": ATTACK}}
    hostile = results.model_copy(
        update={"dataset": ATTACK, "systems": rows, "config": config, "seconds": {ATTACK: 1.0}}
    )
    curves = {ATTACK: [CurvePoint(1, 0.7, 0.0, 0.5)]}
    page = render_report(hostile, [story], curves)
    tags = _Tags(page).tags
    assert not {tag for tag, _ in tags} & {"script", "img", "iframe", "object", "embed"}
    assert not [name for _, attrs in tags for name in attrs if name.startswith("on")]
    assert "\u202e" not in page
    assert "\x00" not in page
    assert "[U+202E]gnp[U+0000]" in page


def test_nothing_is_loaded_from_anywhere(results, stories, curves):
    page = render_report(results, stories, curves)
    tags = _Tags(page).tags
    links = [
        attrs[name] for _, attrs in tags for name in ("src", "href", "srcset") if name in attrs
    ]
    assert links == ["data:,"]  # an empty icon, so that no browser asks a server for one
    assert "http://" not in page
    assert "https://" not in page
    assert "url(" not in page
    assert "@import" not in page
    policies = [attrs["content"] for tag, attrs in tags if "http-equiv" in attrs]
    assert policies[0].startswith("default-src 'none'; style-src 'unsafe-inline'")


def test_numbers_of_the_run_are_on_the_page(results, stories, curves):
    text = " ".join("".join(_Tags(render_report(results, stories, curves)).text).split())
    for expected in (
        "packaged/smollm2-135m-instruct",
        "20,112 (\u201cpopular\u201d)",
        "PRM: Tuned, round 2 ranks better than Untuned LLM (NDCG@5 +0.0110, 95 % interval "
        "+0.0060 to +0.0160, p = 0.001)",
        "0.594 ± 0.006",
        "no clear difference",
        "Where the time went",
        "List after tuning, NDCG@5 0.651",
        "★ 4",
        "✓ positive",
        "reward \u22121.7420",
    ):
        assert expected in text, expected


def test_charts_tell_what_they_show(results, stories, curves):
    page = render_report(results, stories, curves)
    charts = re.findall(r'<svg class="chart" role="img" aria-labelledby="(\S+) (\S+)"', page)
    assert len(charts) == 3 + 2 + 2 + 1
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for title, description in charts:
        assert f'<title id="{title}">' in page
        assert f'<desc id="{description}">' in page


def test_a_run_with_nothing_to_show_still_has_a_report(empty):
    page = render_report(empty)
    assert "No system was evaluated." in page
    assert "not recorded" in page
    assert 'role="img"' not in page


def test_a_story_without_tuning(results, stories):
    untuned = replace(stories[0], best=None, worst=None, text_after=None, list_after=[])
    page = render_report(results, [untuned])
    assert "Text before tuning" in page
    assert "Text after tuning" not in page
    assert "Best and worst of its texts" not in page
    assert "Best and worst of its texts" in render_report(results, stories)


def test_a_list_without_a_positive_has_no_ndcg(results, stories):
    story = replace(stories[0], list_before=[RankedItem("Fargo", False)], list_after=[])
    assert (
        "NDCG@5 " not in re.search(r"List before tuning[^<]*", render_report(results, [story]))[0]
    )


def test_main_metric_falls_back(results):
    assert main_metric(results) == "ndcg@5"
    rest = [row for row in results.systems if row.metric != "ndcg@5"]
    assert main_metric(results.model_copy(update={"systems": rest})) == "map@5"


def test_lone_surrogates_can_be_written(tmp_path, results, stories):
    path = tmp_path / "report.html"
    write_report(path, results, [replace(stories[0], text_before="broken \ud800 text")])
    assert "broken [U+D800] text" in path.read_text(encoding="utf-8")


def test_same_results_same_page(results, stories, curves):
    assert render_report(results, stories, curves) == render_report(results, stories, curves)


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_have_contrast_in_both_schemes(empty):
    """WCAG 2.2: at least 4.5 to 1 for text; lines and markers would need only 3 to 1."""
    schemes = re.findall(r":root \{(.*?)\}", render_report(empty), re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme))
        for background in ("paper", "panel"):
            for name in colours.keys() - {"paper", "panel", "rule"}:
                pair = sorted([_luminance(colours[name]), _luminance(colours[background])])
                assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (name, background)
