"""Archives that mean harm, or are laid out otherwise than expected; and moving into place."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from emu2eval.doctor.get import archive, place
from emu2eval.errors import DataError
from emu2eval.spec.remote import RemoteFile, remote_files
from emu2eval.spec.task import load_task


def zipped(path: Path, members: dict[str, bytes], mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (mode or stat.S_IFREG | 0o644) << 16
            file.writestr(info, data)
    return path


def tarred(path: Path, members: dict[str, bytes], **change: Any) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in change.items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(data))
    return path


def unpacked(path: Path, **remote: Any) -> dict[str, bytes]:
    into = path.parent / "into"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    settings = RemoteFile(url="https://example.org/a", **remote)
    archive.unpack(path, path.name, settings, into, lambda count: None)
    return {p.relative_to(into).as_posix(): p.read_bytes() for p in into.rglob("*") if p.is_file()}


MEMBERS = {"top/a.txt": b"a" * 5000, "top/b/c.txt": b"c", "__MACOSX/top/._a.txt": b"x"}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz"])
def test_every_kind_is_unpacked(tmp_path: Path, name: str) -> None:
    make = zipped if name.endswith(".zip") else tarred
    path = make(tmp_path / name, MEMBERS)
    assert archive.is_archive(name)
    assert unpacked(path) == {"top/a.txt": b"a" * 5000, "top/b/c.txt": b"c"}
    assert unpacked(path, strip=1, take=("top/*",)) == {"a.txt": b"a" * 5000}


def test_a_packed_file(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b"[1]"))
    assert unpacked(tmp_path / "a.json.gz") == {"a.json": b"[1]"}


@pytest.mark.parametrize("make", [zipped, tarred])
@pytest.mark.parametrize(
    "name",
    [
        "../out.txt",
        "a/../../out.txt",
        "/etc/out.txt",
        "C:/out.txt",
        "..\\out.txt",
        ".emu2eval/lock",
    ],
)
def test_nothing_leaves_its_folder(tmp_path: Path, make: Callable[..., Path], name: str) -> None:
    path = make(tmp_path / ("a.zip" if make is zipped else "a.tar"), {"ok.txt": b"1", name: b"2"})
    with pytest.raises(DataError, match=r"is outside the folder|cannot be used"):
        unpacked(path)
    held = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert held == {path.name, "ok.txt"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_no_links_and_no_devices(tmp_path: Path, kind: bytes) -> None:
    path = tarred(tmp_path / "a.tar", {"a": b""}, type=kind, linkname="/etc/passwd")
    with pytest.raises(DataError, match="a link or a special file"):
        unpacked(path)
    link = zipped(tmp_path / "a.zip", {"a": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777)
    with pytest.raises(DataError, match="a link or a special file"):
        unpacked(link)


def test_no_rights_of_an_archive_are_taken_over(tmp_path: Path) -> None:
    unpacked(tarred(tmp_path / "a.tar", {"a": b"1"}, mode=0o4777))
    assert (tmp_path / "into/a").stat().st_mode & 0o7111 == 0


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.json.gz"])
def test_bombs_are_bounded(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_SMALL", 1 << 20)
    monkeypatch.setattr(archive, "MOST_RATIO", 10)
    zeros = bytes(4 << 20)
    path = tmp_path / name
    if name == "a.json.gz":
        path.write_bytes(gzip.compress(zeros))
    else:
        (zipped if name == "a.zip" else tarred)(path, {"a": zeros})
    with pytest.raises(DataError, match="unpack"):
        unpacked(path)
    assert sum(p.stat().st_size for p in (tmp_path / "into").rglob("*")) <= 1 << 20


def test_a_header_of_a_tar_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_LONGEST_HEADER", 1 << 16)
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 18
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf() + bytes(1 << 18)))
    with pytest.raises(DataError, match="suspicious size"):
        unpacked(path)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.json.gz"])
def test_damaged_archives_are_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.json.gz":
        path.write_bytes(gzip.compress(os.urandom(5000)))
    else:
        (zipped if name == "a.zip" else tarred)(path, {"a": os.urandom(5000)})
    whole = path.read_bytes()
    cut = whole[: len(whole) // 2] if name != "a.tar" else whole[:5632]  # at the border of a member
    for data in (cut, b"<html>no archive</html>", b""):
        path.write_bytes(data)
        with pytest.raises(DataError, match="was not unpacked"):
            unpacked(path)


def test_a_password_and_a_name_twice(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a": b"1"})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="password-protected"):
        unpacked(path)
    with tarfile.open(tmp_path / "b.tar", "w") as file:
        for _ in range(2):
            file.addfile(tarfile.TarInfo("twice"))
    with pytest.raises(DataError, match=r"it contains .*/twice twice"):
        unpacked(tmp_path / "b.tar")


def test_an_archive_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place outside of the file, as one damaged byte makes it."""

    def fails(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    path = zipped(tmp_path / "a.zip", MEMBERS)
    monkeypatch.setattr(zipfile.ZipFile, "open", fails)
    with pytest.raises(DataError, match=r"a\.zip was not unpacked: OSError"):
        unpacked(path)


@pytest.mark.parametrize("task", ["dreambench", "coco_t2i", "vl_icl_clevr"])
def test_what_bundled_tasks_take_of_their_archives(tmp_path: Path, task: str) -> None:
    members, gives = {
        "dreambench": (
            {"dreambooth-4f887af/README.md": b"", "dreambooth-4f887af/dataset/a/00.jpg": b"1"},
            ["dataset/a/00.jpg"],
        ),
        "coco_t2i": (
            {f"annotations/{kind}_val2014.json": b"{}" for kind in ("captions", "instances")},
            ["annotations/captions_val2014.json"],
        ),
        "vl_icl_clevr": ({"query/0.png": b"1"}, ["query/0.png"]),
    }[task]
    (remote,) = remote_files(load_task(task).spec.data.downloads[0].get)
    path = zipped(tmp_path / "a.zip", members)
    into = tmp_path / "into"
    into.mkdir()
    archive.unpack(path, path.name, remote, into, lambda count: None)
    assert [p.relative_to(into).as_posix() for p in into.rglob("*") if p.is_file()] == gives


def test_the_disk_is_looked_at_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "a.zip", MEMBERS)
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="GB are needed"):
        unpacked(path)


@pytest.mark.parametrize(
    ("names", "gives"),
    [
        (["val/1.jpg", "val/2.jpg"], "val"),  # as expected
        (["data/val/1.jpg", "data/val/2.jpg"], "val"),  # a folder deeper
        (["1.jpg", "2.jpg"], "val"),  # no folder at all
        (["Val-2014/1.jpg", "Val-2014/2.jpg"], "val"),  # another name
        (["x/y/questions.json", "README"], "questions.json"),
    ],
)
def test_what_is_wanted_is_found(tmp_path: Path, names: list[str], gives: str) -> None:
    staged = tmp_path / "staged"
    for name in names:
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).write_text(name)
    place.arrange(staged, [PurePosixPath(gives)])
    place.place(staged, tmp_path / "data")
    found = tmp_path / "data" / gives
    if gives == "val":
        assert sorted(p.name for p in found.iterdir()) == ["1.jpg", "2.jpg"]
    else:
        assert found.read_text() == names[0]


def test_what_is_not_in_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "staged/a").mkdir(parents=True)
    (tmp_path / "staged/b").mkdir()
    with pytest.raises(DataError, match=r"does not contain val and q\.json, but a, b"):
        place.arrange(tmp_path / "staged", [PurePosixPath("val"), PurePosixPath("q.json")])


def test_half_a_folder_is_completed(tmp_path: Path) -> None:
    staged, there = tmp_path / "staged/val", tmp_path / "data/val"
    for folder in (staged, there):
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_text(folder.parent.name)
    (staged / "2.jpg").write_text("new")
    (there / "mine.txt").write_text("kept")
    place.place(tmp_path / "staged", tmp_path / "data")
    assert {p.name: p.read_text() for p in there.iterdir()} == {
        "1.jpg": "staged",
        "2.jpg": "new",
        "mine.txt": "kept",
    }


def test_a_link_to_another_disk_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "staged/sub").mkdir(parents=True)
    (tmp_path / "staged/a.json").write_text("1")
    (tmp_path / "staged/sub/b.json").write_text("2")
    plain = Path.replace

    def across(path: Path, target: Path) -> Path:
        if "staged" in str(path):
            raise OSError(18, "Invalid cross-device link")
        return plain(path, target)

    monkeypatch.setattr(Path, "replace", across)
    place.place(tmp_path / "staged", tmp_path / "data")
    assert (tmp_path / "data/a.json").read_text() + (
        tmp_path / "data/sub/b.json"
    ).read_text() == "12"
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["a.json", "sub"]
