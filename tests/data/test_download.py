"""Downloads, from archives that the tests make and serve by file:// addresses."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from rlrf4rec.data import download, movielens
from rlrf4rec.data.download import download_movielens
from rlrf4rec.errors import DataError, MissingPartError
from rlrf4rec.paths import cache_root

NAME = "ml-latest-small"


def publish(folder: Path, members: dict[str, str], md5: str | None = None) -> str:
    """Write the archive and its .md5 file; returns the base address."""
    folder.mkdir(exist_ok=True)
    archive = folder / f"{NAME}.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    digest = md5 or hashlib.md5(archive.read_bytes()).hexdigest()
    (folder / f"{NAME}.zip.md5").write_text(f"MD5 ({NAME}.zip) = {digest}\n")
    return folder.as_uri()


GOOD = {
    f"{NAME}/ratings.csv": "userId,movieId,rating,timestamp\n1,1,5,1\n",
    f"{NAME}/movies.csv": "movieId,title,genres\n1,Toy Story (1995),Comedy\n",
}


def test_downloads_once(tmp_path: Path) -> None:
    base = publish(tmp_path / "web", GOOD)
    folder = download_movielens(NAME, tmp_path / "cache", base_url=base)
    assert folder == tmp_path / "cache" / NAME
    assert sorted(path.name for path in folder.iterdir()) == ["movies.csv", "ratings.csv"]
    assert [path.name for path in folder.parent.iterdir()] == [NAME]  # nothing left aside
    again = download_movielens(NAME, tmp_path / "cache", base_url="file:///nowhere")
    assert again == folder


def test_official_name_as_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = publish(tmp_path / "web", GOOD)
    monkeypatch.setenv("RLRF4REC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download.download_movielens, "__kwdefaults__", {"base_url": base})
    raw = movielens.load_movielens(tmp_path / "configs" / NAME)
    assert raw.name == NAME
    assert (tmp_path / "cache" / "movielens" / NAME / "movies.csv").is_file()


@pytest.mark.parametrize(
    ("members", "md5", "message"),
    [
        (GOOD, "0" * 32, "with MD5"),
        (GOOD, "none", "32 hexadecimal digits"),
        ({**GOOD, "../evil.txt": "x"}, None, r"member '\.\./evil\.txt'"),
        ({**GOOD, f"{NAME}/../../evil.txt": "x"}, None, "member"),
        ({**GOOD, "/evil.txt": "x"}, None, "member '/evil.txt'"),
        ({**GOOD, "C:/evil.txt": "x"}, None, "member 'C:/evil.txt'"),
        ({"other/file": "x"}, None, "a folder 'ml-latest-small'"),
    ],
)
def test_refuses_bad_archives(
    tmp_path: Path, members: dict[str, str], md5: str | None, message: str
) -> None:
    base = publish(tmp_path / "web", members, md5)
    with pytest.raises(DataError, match=message):
        download_movielens(NAME, tmp_path / "cache", base_url=base)
    assert list((tmp_path / "cache").iterdir()) == []
    assert not list(tmp_path.rglob("evil.txt"))


def test_pinned_md5(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as file:
        file.writestr("ml-1m/ratings.dat", "")
    with pytest.raises(DataError, match="c4d9eecfca2ab87c1945afe126590906"):
        download_movielens("ml-1m", tmp_path / "cache", base_url=tmp_path.as_uri())


def test_broken_zip(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.zip").write_bytes(b"no archive")
    digest = hashlib.md5(b"no archive").hexdigest()
    (tmp_path / f"{NAME}.zip.md5").write_text(digest)
    with pytest.raises(DataError, match="a ZIP archive"):
        download_movielens(NAME, tmp_path / "cache", base_url=tmp_path.as_uri())


def test_unreachable(tmp_path: Path) -> None:
    with pytest.raises(MissingPartError, match=r"set data\.path"):
        download_movielens("ml-100k", tmp_path, base_url=(tmp_path / "none").as_uri())


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'ml-99m'"):
        download_movielens("ml-99m", tmp_path)


def test_cache_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLRF4REC_CACHE", "/somewhere")
    assert cache_root() == Path("/somewhere")
    monkeypatch.delenv("RLRF4REC_CACHE")
    assert cache_root() == Path.home() / ".cache" / "rlrf4rec"
