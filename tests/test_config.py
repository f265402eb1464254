"""Settings: what is refused, how it is said, and what overrides do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from rlrf4rec.config import Config, load_config, parse_config
from rlrf4rec.errors import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"
SHIPPED = sorted(set(CONFIGS.rglob("*.yaml")) - set(CONFIGS.rglob("*axes.yaml")))


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("seed: 3\ngeneration:\n  n_samples: 6\n", encoding="utf-8")
    return path


def _sections(section: type[BaseModel], name: str = "config") -> Iterator[tuple[str, Any]]:
    for key, info in section.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _sections(kind, key)
        else:
            yield f"{name}.{key}", info


def test_every_default_is_valid() -> None:
    assert parse_config(Config().model_dump()) == Config()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configs_load(path: Path) -> None:
    load_config(path)


def test_there_are_shipped_configs() -> None:
    assert "demo.yaml" in [path.name for path in SHIPPED]


def test_every_setting_is_described_or_speaks_for_itself() -> None:
    """The reference page is made of the descriptions. What may go without is listed by hand."""
    plain = {
        "config.seed", "columns.user", "columns.item", "columns.title", "data.source",
        "evaluation.kinds", "evaluation.backbones", "evaluation.seeds", "evaluation.ks",
        "reward.backbone", "machine.engine", "machine.device",
    }  # fmt: skip
    bare = {name for name, info in _sections(Config) if not info.description}
    assert bare <= plain


def test_shares_and_counts_are_bounded() -> None:
    """No number may be unbounded from below: a negative count or rate is always a slip."""
    free = {"data.positive_rating"}  # a log's ratings may be of any scale
    for name, info in _sections(Config):
        default = info.default
        if type(default) not in (int, float) or name in free:
            continue
        section, key = name.rsplit(".", 1)
        raw = {key: -1} if section == "config" else {section: {key: -1}}
        with pytest.raises(ConfigError, match=key):
            parse_config(raw)


TABLE = {"source": "table", "interactions": "log.csv", "items": "items.csv"}


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ({"lists": {"list_sise": 10}}, "lists.list_sise"),
        ({"list": {}}, "list:"),
        ({"data": {"columns": {"userid": "u"}}}, "data.columns.userid"),
        ({"generation": {"temperature": 0}}, "generation.temperature"),
        ({"generation": {"top_p": 1.5}}, "generation.top_p"),
        ({"generation": {"n_samples": "many"}}, "generation.n_samples"),
        ({"generation": {"n_samples": 2.5}}, "generation.n_samples"),
        ({"generation": {"temperature": float("inf")}}, "generation.temperature"),
        ({"data": {"positive_rating": float("nan")}}, "data.positive_rating"),
        ({"folds": {"protocol": "leave-one-out"}}, "folds.protocol"),
        ({"evaluation": {"backbones": []}}, "evaluation.backbones"),
        ({"evaluation": {"ks": [5, 0]}}, "evaluation.ks.1"),
        ({"lists": {"list_size": 4, "chunk_size": 4}}, "smaller than list_size"),
        ({"data": {"source": "table", "items": "items.csv"}}, "interactions"),
        ({"generation": {"n_samples": 2}, "evaluation": {"n_samples": 3}}, "must not exceed"),
        ({"lists": {"min_history": 5, "max_reading": 4}}, "must not exceed max_reading"),
        ({"evaluation": {"seeds": [0, -1]}}, "evaluation.seeds.1"),
        ({"seed": 2**32}, "seed"),
        (
            {"evaluation": {"backbones": ["prm", "prm"]}},
            "evaluation.backbones: Value error, every entry once",
        ),
        ({"alignment": {"max_pairs": 1, "pairs_per_user": 2}}, "not be smaller"),
        ({"data": {"interactions": "log.csv", "items": "items.csv"}}, "source: amazon or table"),
        ({"data": {**TABLE, "path": "folder"}}, "does not read path"),
        ({"data": {**TABLE, "columns": {"profile": ["age"]}}}, "columns.profile needs 'users'"),
        ({"data": None}, "data:"),
        ({7: 1}, "7"),
    ],
)
def test_wrong_settings_are_refused_by_name(raw: dict[Any, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        parse_config(raw)


def test_all_wrong_settings_are_named_together() -> None:
    raw = {
        "seed": -1,
        "lists": {"list_sise": 10, "chunk_size": 0},
        "reward": {"metric": "auc"},
        "nonsense": {},
    }
    with pytest.raises(ConfigError) as caught:
        parse_config(raw, origin="run.yaml")
    for name in ("seed", "lists.list_sise", "lists.chunk_size", "reward.metric", "nonsense"):
        assert f"{name}:" in caught.value.found
    assert caught.value.found.startswith("run.yaml")
    assert "'auc'" in caught.value.found  # the value that was found


def test_zero_is_kept() -> None:
    config = parse_config({"reward": {"margin": 0.0}, "alignment": {"warmup_share": 0}})
    assert config.reward.margin == 0
    assert config.alignment.warmup_share == 0


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 1  # type: ignore[misc]


def test_overrides_win_over_the_file(config_file: Path) -> None:
    config = load_config(
        config_file,
        [
            "generation.n_samples=8",
            "generation.n_samples=9",
            "seed=4",
            "evaluation.seeds=[5, 6]",
            "data.columns.rating=stars=given",
            "alignment.max_pairs=null",
        ],
    )
    assert config.generation.n_samples == 9
    assert config.seed == 4
    assert config.evaluation.seeds == [5, 6]
    assert config.data.columns.rating == "stars=given"
    assert config.alignment.max_pairs is None
    assert load_config(config_file).generation.n_samples == 6


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("generation.n_samples", "section.key=value"),
        ("=3", "section.key=value"),
        ("generation.=3", "section.key=value"),
        ("seed.value=3", "a section named 'seed'"),
        ("generation.n_samples.more=3", "a section named 'n_samples'"),
        ("generation=3", "generation"),
        ("generation.n_sample=3", "generation.n_sample"),
        ("model.name=[", "a YAML value"),
        ("data.path=~nobody-of-this-name/log", "a path"),
    ],
)
def test_overrides_that_do_not_fit(config_file: Path, override: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config_file, [override])
    assert told in str(caught.value)


def test_relative_paths_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "run.yaml").write_text(
        "data:\n  source: table\n  interactions: ../logs/log.csv\n"
        f"  items: {tmp_path}/items.csv\n  users: ~/users.csv\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    for path in (Path("project/run.yaml"), folder / "run.yaml"):
        data = load_config(path).data
        assert data.interactions == tmp_path / "logs/log.csv"
        assert data.items == tmp_path / "items.csv"
        assert data.users == Path("/home/someone/users.csv")
    december = load_config("project/run.yaml", ["data.interactions=logs/december.csv"]).data
    assert december.interactions == tmp_path / "logs/december.csv"
    assert december.items == tmp_path / "items.csv"


def test_a_template_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's beside it, an override's where the command is run; a shipped one is a name."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run.yaml").write_text("prompt: {template: mine.yaml}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = tmp_path / "run.yaml"
    assert load_config(path).prompt.template == str(tmp_path / "mine.yaml")
    other = load_config(path, ["prompt.template=./other.yml"]).prompt.template
    assert other == str(tmp_path / "elsewhere" / "other.yml")
    (tmp_path / "elsewhere" / "movies").mkdir()
    assert load_config(path, ["prompt.template=movies"]).prompt.template == "movies"


def test_a_local_model_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is there or looks like one; any other name is a packaged or hub model's."""
    (tmp_path / "models" / "llm").mkdir(parents=True)
    path = tmp_path / "run.yaml"
    path.write_text("model: {name: models/llm}\nknowledge: {encoder: ./gone}\n", encoding="utf-8")
    monkeypatch.chdir("/")
    config = load_config(path)
    assert config.model.name == str(tmp_path / "models" / "llm")
    assert config.knowledge.encoder == str(tmp_path / "gone")
    assert load_config(path, ["model.name=some/hub-id"]).model.name == "some/hub-id"


def test_a_section_without_settings_can_be_overridden(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("generation:\n", encoding="utf-8")
    assert load_config(tmp_path / "run.yaml", ["generation.n_samples=3"]).generation.n_samples == 3


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("# nothing yet\n", encoding="utf-8")
    assert load_config(tmp_path / "run.yaml") == Config()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"- 1\n- 2\n", "list"),
        (b"just words", "str"),
        (b"a: [1, 2", "valid YAML"),
        (b"\xff\xfe\x00", "valid YAML"),
        (b"data: {}\nlists: {}\ndata: {name: a}\n", "'data' stands here twice"),
        (b"lists:\n  draws: 1\n  draws: 2\n", "'draws' stands here twice"),
        (b"model: !!python/object/apply:os.getcwd []", "valid YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml \(No such file"):
        load_config(tmp_path / "no.yaml")
