"""`emu2eval data get`: asks, brings, unpacks into place and continues; from a server and from the hub."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from emu2eval.cli import get as verb
from emu2eval.cli.get import bring_data
from emu2eval.data.sources import require
from emu2eval.doctor.get import bring as bringing
from emu2eval.doctor.get import download as downloading
from emu2eval.doctor.get import http, hub
from emu2eval.doctor.get.download import Parcel
from emu2eval.doctor.get.orders import Item, Order, short
from emu2eval.doctor.get.shown import GetBars
from emu2eval.errors import MissingData, UserError
from emu2eval.spec import catalog
from emu2eval.spec.data import Download
from emu2eval.spec.remote import RemoteFile, remote_files, shared_files
from emu2eval.spec.task import load_task
from emu2eval.spec.yamlfile import read_yaml, validate

from ..conftest import Program, encoded
from .file_server import FileServer, Served, serving

ROWS = [
    {"id": f"q{n}", "image": f"{n}.jpg", "question": "what?", "answer": "red"} for n in range(3)
]
TEST = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def packed(names: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in names.items():
            file.writestr(name, data)
    return buffer.getvalue()


IMAGES = packed({f"photos/{n}.jpg": encoded(n) for n in range(3)})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(downloading, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(hub, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(http, "_LATER", 0.01)
    files = {"/test.jsonl": Served(TEST), "/photos.zip": Served(IMAGES)}
    with serving(files) as found:
        yield found


MakeData = Callable[..., Path]


@pytest.fixture
def task(server: FileServer, tmp_path: Path) -> MakeData:
    """A task whose data is on the server."""

    def make(**images: Any) -> Path:
        spec = {
            "name": "photos",
            "title": "Photos",
            "licence": "CC BY 4.0",
            "source": "https://example.org/photos",
            "data": {
                "reader": "table",
                "root": "data",
                "options": {"folder": "photos"},
                "splits": {"test": {"files": "test.jsonl"}},
                "downloads": [
                    {
                        "what": "questions",
                        "size": "small",
                        "source": f"{server.url}/test.jsonl",
                        "into": ".",
                        "gives": ["test.jsonl"],
                        "get": [{"url": f"{server.url}/test.jsonl"}],
                    },
                    {
                        "what": "photographs",
                        "size": "some GB",
                        "source": "https://example.org/photos",
                        "into": ".",
                        "gives": ["photos"],
                        "files": 3,
                        "get": [{"url": f"{server.url}/photos.zip"}],
                        **images,
                    },
                ],
            },
            "split": "test",
            "score": {"scorer": "exact_match"},
            "protocol": "plain",
            "protocols": {"plain": {"ask": "{image}{question}"}},
        }
        path = tmp_path / "photos.yaml"
        path.write_text(yaml.safe_dump(spec), encoding="utf-8")
        return path

    return make


Get = Callable[..., tuple[int, str]]


@pytest.fixture
def get(capsys: pytest.CaptureFixture[str]) -> Get:
    """What `emu2eval data get` does, without the command line around it: its exit code, what it says."""

    def run(name: str, *splits: str, source: str | None = None, **options: bool) -> tuple[int, str]:
        capsys.readouterr()
        said = ""
        try:
            code = 0 if bring_data(name, splits, source, **{"yes": True, **options}) else 3
        except typer.Exit as ended:
            code = ended.exit_code
        except UserError as error:
            code, said = 2, str(error)
        return code, capsys.readouterr().err + said

    return run


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


WHOLE = {"test.jsonl", "photos/0.jpg", "photos/1.jpg", "photos/2.jpg"}
KEPT = {".emu2eval/brought.jsonl", f".emu2eval/lock-{short('.emu2eval')}/lock"}


def test_data_comes_and_is_used(
    task: MakeData, program: Program, server: FileServer, tmp_path: Path
) -> None:
    path = str(task())
    code, out, err = program("run", "--task", path, "--model", "most-common")
    assert code == 2
    assert f"emu2eval data get {path} --split test" in err
    code, out, err = program("data", "get", path)
    assert (code, out) == (2, "")
    said = " ".join(err.split())
    assert "CC BY 4.0" in said
    assert "https://example.org/photos" in said
    total = f"{(len(TEST) + len(IMAGES)) / 1000:.1f} kB"
    assert f"{total} in 2 files to download" in said
    assert f"if the sizes and licences are fine: emu2eval data get {path} --yes" in said
    assert server.gets("/photos.zip") == []

    code, out, err = program("data", "get", path, "--yes")
    assert code == 0, err
    assert files_below(tmp_path / "data") == WHOLE | KEPT
    brought = tmp_path / "data/.emu2eval/brought.jsonl"
    record = [json.loads(line) for line in brought.read_text().splitlines()]
    assert {each["sha256"] for each in record} == {
        hashlib.sha256(data).hexdigest() for data in (TEST, IMAGES)
    }
    asked = len(server.asked)
    code, out, err = program("data", "get", path, "--yes")
    assert (code, len(server.asked)) == (0, asked)
    assert "complete, in" in err
    code, out, err = program("data", "check", path)
    assert code == 0, out
    # Hidden things of ours are no data: nothing is half there.
    assert "3 of 3" in out


def test_only_says_what_it_would_bring(
    task: MakeData, program: Program, server: FileServer, tmp_path: Path
) -> None:
    code, _, err = program("data", "get", str(task()), "--dry-run")
    assert code == 0
    assert f"photographs: {len(IMAGES) / 1000:.1f} kB" in err
    assert f"    {server.url}/photos.zip\n" in err
    assert server.gets("/photos.zip") == []
    assert not (tmp_path / "data").exists()


def test_asks_on_a_terminal(
    task: MakeData, program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(verb, "interactive", lambda: True)
    path = str(task())
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert program("data", "get", path)[0] == 1
    assert not (tmp_path / "data").exists()
    # `run` offers the same, and goes on with what came.
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    code, out, err = program("run", "--task", path, "--model", "most-common")
    assert code == 0, err
    assert "Download this now?" in err
    assert "photos" in out


class Killed(BaseException):
    """As if the process ended here."""


@pytest.mark.parametrize(
    ("at", "after"),
    [
        ("emu2eval.doctor.get.archive.unpack", False),
        ("emu2eval.doctor.get.archive.unpack", True),
        ("emu2eval.doctor.get.bring.arrange", True),
        ("emu2eval.doctor.get.bring.place", False),
        ("emu2eval.doctor.get.place._move", True),
        ("shutil.rmtree", True),
        ("emu2eval.doctor.get.bring._clear", False),
    ],
)
def test_a_kill_at_any_step_loses_nothing(
    task: MakeData,
    get: Get,
    server: FileServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    at: str,
    after: bool,
) -> None:
    path = str(task())
    module, _, name = at.rpartition(".")
    plain = getattr(sys.modules[module], name)

    def killed(*arguments: Any, **options: Any) -> None:
        if after:
            plain(*arguments, **options)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(at, killed)
        get(path)
    photos = tmp_path / "data/photos"
    assert not photos.exists() or len(list(photos.iterdir())) == 3
    asked = len(server.gets("/photos.zip"))
    whole = photos.exists() or any((tmp_path / "data/.emu2eval").glob("*-photos.zip"))
    assert get(path)[0] == 0
    assert files_below(tmp_path / "data") >= WHOLE
    if whole:
        assert len(server.gets("/photos.zip")) == asked


def test_ctrl_c_keeps_the_parts(
    task: MakeData,
    get: Get,
    program: Program,
    server: FileServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = str(task())
    server.files["/photos.zip"].cuts = [500]

    def came(self: Any, name: str, have: int, total: int | None) -> None:
        if name == "photos.zip" and have:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("emu2eval.doctor.get.shown.GetBars.came", came)
        code, err = get(path)
    assert code == 130
    assert f"saved, to continue: emu2eval data get {path} --yes" in err
    area = tmp_path / "data/.emu2eval"
    assert not [
        path.name for path in area.glob("*-test.jsonl*") if (area.parent / "test.jsonl").exists()
    ]
    (part,) = area.glob("*-photos.zip.part")
    assert part.stat().st_size == 500
    assert "500 bytes already downloaded" in get(path, dry_run=True)[1]
    assert "photographs (500 bytes downloaded)" in " ".join(
        program("data", "status", path)[1].split()
    )
    assert get(path)[0] == 0
    assert server.gets("/photos.zip")[-1]["range"] == "bytes=500-"


def test_one_that_fails_does_not_stop_the_others(
    task: MakeData, get: Get, server: FileServer, tmp_path: Path
) -> None:
    path = str(task())
    server.files["/photos.zip"] = Served(packed({"../../out.jpg": b"1"}))
    code, err = get(path)
    assert code == 2
    assert "photos.zip was not unpacked: the name '../../out.jpg' is outside the folder" in err
    assert (tmp_path / "data/test.jsonl").read_bytes() == TEST
    assert not (tmp_path / "data/photos").exists()
    assert not list(tmp_path.rglob("out.jpg"))
    del server.files["/photos.zip"]
    for left in (tmp_path / "data/.emu2eval").glob("*photos*"):
        left.unlink()
    code, err = get(path)
    assert code == 2
    assert "HTTP 404" in err


def test_a_file_that_changes_without_a_published_digest(
    task: MakeData, get: Get, server: FileServer, tmp_path: Path
) -> None:
    path = str(task())
    assert get(path)[0] == 0
    (tmp_path / "data/test.jsonl").unlink()
    server.files["/test.jsonl"] = Served(TEST + TEST)
    code, err = get(path)
    assert code == 2
    assert "the file has changed at its source: on 20" in err
    record = tmp_path / "data/.emu2eval/brought.jsonl"
    assert f"remove the line with this URL from {record}" in err
    record.write_text("")
    assert get(path)[0] == 0


def test_what_wants_a_form_is_told(
    task: MakeData, get: Get, server: FileServer, tmp_path: Path
) -> None:
    path = str(task(get=[], note="the archive has a password"))
    code, err = get(path)
    assert code == 3
    said = " ".join(err.split())
    assert "By hand: photographs, some GB from https://example.org/photos unpack in" in said
    assert f"to give {tmp_path}/data/photos the archive has a password" in said
    assert (tmp_path / "data/test.jsonl").exists()
    with pytest.raises(MissingData) as caught:
        require(load_task(path), ["test"])
    assert "emu2eval data get" not in str(caught.value)  # it could bring nothing


def test_two_at_once_do_not_meet(task: MakeData, get: Get, tmp_path: Path) -> None:
    from emu2eval.runs.lock import take

    path = str(task())
    own = tmp_path / f"data/.emu2eval/lock-{short('.emu2eval')}"
    own.mkdir(parents=True)
    with take(own) or pytest.fail():
        code, err = get(path)
    assert code == 2
    assert "another `emu2eval data get` is downloading to this folder" in err


def test_the_disk_is_looked_at_before_anything_comes(
    task: MakeData, get: Get, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringing, "free", lambda folder: 1000)
    code, err = get(str(task()))
    assert code == 2
    assert "downloading and unpacking needs" in err
    assert server.gets("/photos.zip") == []


def test_a_task_cannot_put_data_outside_of_its_root(task: MakeData, get: Get) -> None:
    code, err = get(str(task(into="../..")))
    assert code == 2
    assert "outside the data folder" in err


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_server(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """The server as a hub that holds lmms-lab/OK-VQA in two pages of a listing."""
    shards = {f"data/val2014-0000{n}-of-00002.parquet": bytes([n]) * 300 for n in range(2)}
    api = "/api/datasets/lmms-lab/OK-VQA"

    def entry(path: str, data: bytes) -> dict[str, Any]:
        if path.endswith("0-of-00002.parquet"):
            oid = hashlib.sha256(data).hexdigest()
            return {
                "type": "file",
                "path": path,
                "size": 300,
                "oid": "x",
                "lfs": {"oid": oid, "size": 300},
            }
        oid = hashlib.sha1(b"blob 300\0" + data).hexdigest()
        return {"type": "file", "path": path, "size": 300, "oid": oid}

    info = {"sha": COMMIT, "cardData": {"license": "apache-2.0"}, "gated": False}
    listed = [entry(*each) for each in shards.items()]
    first = [{"type": "directory", "path": "data"}, listed[0]]
    rest = [listed[1], {"type": "file", "path": "README.md", "size": 3, "oid": "y"}]
    server.files |= {
        f"{api}/revision/main": Served(json.dumps(info).encode()),
        f"{api}/tree/{COMMIT}": Served(
            json.dumps(first).encode(),
            headers={"Link": f'<{server.url}{api}/tree/more?cursor=2>; rel="next"'},
        ),
        f"{api}/tree/more": Served(json.dumps(rest).encode()),
        **{
            f"/datasets/lmms-lab/OK-VQA/resolve/{COMMIT}/{path}": Served(data, etag=None)
            for path, data in shards.items()
        },
    }
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    return server


def test_files_of_the_hub(hub_server: FileServer, get: Get, tmp_path: Path) -> None:
    code, err = get("okvqa", "val", source="hub", dry_run=True)
    said = " ".join(err.split())
    assert "600 bytes in 2 files to download" in said
    assert "The dataset card on the hub says 'apache-2.0' (lmms-lab/OK-VQA)" in said
    assert (code, "SHA256 and GIT checked" in said) == (0, True)
    code, err = get("okvqa", "val", source="hub")
    assert code == 0, err
    folder = tmp_path / "data/hub/lmms-lab/OK-VQA"
    assert files_below(folder) == {
        "data/val2014-00000-of-00002.parquet",
        "data/val2014-00001-of-00002.parquet",
    }
    assert {headers.get("authorization") for _, _, headers in hub_server.asked} == {
        "Bearer hf_secretsecretsecret"
    }
    # The digests of the listing are held to; one file that is there already is not brought again.
    (folder / "data/val2014-00001-of-00002.parquet").unlink()
    path = f"/datasets/lmms-lab/OK-VQA/resolve/{COMMIT}/data/val2014-00001-of-00002.parquet"
    hub_server.files[path].data = bytes(300)
    code, err = get("okvqa", "val", source="hub")
    assert code == 2
    assert "its digest is git:" in err
    assert "(lmms-lab/OK-VQA at 0123456)" in err
    assert "secret" not in err
    assert len(hub_server.gets(path.replace("00001", "00000"))) == 1


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "accept its terms"), (403, "accept its terms"), (404, "does not have")],
)
def test_the_hub_refuses(hub_server: FileServer, get: Get, status: int, says: str) -> None:
    listing = hub_server.files["/api/datasets/lmms-lab/OK-VQA/revision/main"]
    listing.statuses = [(503, {}), (status, {})]
    code, err = get("okvqa", "val", source="hub")
    assert code == 2
    assert says in err
    assert f"HTTP {status}" in err


def test_no_hub_where_it_is_switched_off(
    hub_server: FileServer, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in get("okvqa", "val", source="hub")[1]
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://example.org")
    assert "HF_ENDPOINT is not usable" in get("mmmu")[1]
    assert hub_server.asked == []


def test_a_killed_process_continues(
    task: MakeData, server: FileServer, get: Get, tmp_path: Path
) -> None:
    path = str(task())
    whole = server.files["/photos.zip"]
    # The reply stays open after its first bytes, so that the process can be killed within.
    server.files["/photos.zip"] = Served(whole.data, cuts=[700], hold=True)
    with subprocess.Popen(
        [sys.executable, "-m", "emu2eval", "data", "get", path, "--yes"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            parts = list((tmp_path / "data/.emu2eval").glob("*-photos.zip.part"))
            if parts and parts[0].stat().st_size == 700:
                break
            time.sleep(0.01)
        process.kill()
    server.files["/photos.zip"] = whole
    assert get(path)[0] == 0
    assert server.gets("/photos.zip")[-1]["range"] == "bytes=700-"
    assert files_below(tmp_path / "data") >= WHOLE


def test_what_the_bundled_tasks_bring_is_well_named() -> None:
    """Each is named, lies below its `into`, and a published digest says who published it."""
    used: set[str] = set()
    for name, path in catalog.names("task").items():
        document = read_yaml(path)
        for listed in document.data["data"].get("downloads", []):
            download = validate(Download, listed, document)
            used |= {each for each in download.get if isinstance(each, str)}
            for remote in remote_files(download.get):
                assert remote.digest is None or remote.known, (name, download.what)
            for given in download.gives:
                assert f"{given}/".startswith(f"{download.into}/") or download.into == "."
    assert set(shared_files()) == used


def test_several_archives_of_one_thing(
    task: MakeData, get: Get, server: FileServer, tmp_path: Path
) -> None:
    """As VL-ICL has them: one with its folder inside, one without."""
    flat = packed({f"{n}.jpg": encoded(n) for n in range(3)})
    server.files |= {"/photos.zip": Served(flat), "/more.zip": Served(packed({"more/a.txt": b"a"}))}
    both = [{"url": f"{server.url}/{name}.zip"} for name in ("photos", "more")]
    path = str(task(gives=["photos", "more"], files=None, get=both))
    assert get(path)[0] == 0
    assert files_below(tmp_path / "data") == WHOLE | KEPT | {"more/a.txt"}


LISTED = {"file": "list.json", "each": "images", "url": "address", "name": "file"}


def listing(server: FileServer, **names: str) -> Served:
    images = [{"file": name, "address": url} for name, url in names.items()]
    images += [{"file": f"{n}.jpg", "address": f"{server.url}/p/{n}.jpg"} for n in range(3)]
    return Served(json.dumps({"images": images}).encode())


@pytest.fixture
def list_task(task: MakeData, server: FileServer) -> str:
    """Whose photographs stand, address by address, in a list that is brought before."""
    server.files |= {f"/p/{n}.jpg": Served(encoded(n)) for n in range(3)}
    server.files["/list.json"] = listing(server)
    path = task(
        into="photos", get=[{"listed": {**LISTED, "below": f"{server.url}/p/"}}], gives=["photos"]
    )
    text = (
        path.read_text().replace("test.jsonl'", "list.json'").replace("/test.jsonl", "/list.json")
    )
    path.write_text(text.replace("- test.jsonl", "- list.json"))
    return str(path)


def test_files_of_a_list(list_task: str, get: Get, server: FileServer, tmp_path: Path) -> None:
    _, err = get(list_task, dry_run=True)
    assert f"from the URLs in {tmp_path}/data/list.json, once that is downloaded" in err
    assert get(list_task)[0] == 0
    photos = {f"photos/{n}.jpg" for n in range(3)}
    assert files_below(tmp_path / "data") >= photos | {"list.json"}
    assert (tmp_path / "data/photos/1.jpg").read_bytes() == encoded(1)
    # One that is lost comes again, and nothing else does.
    (tmp_path / "data/photos/2.jpg").unlink()
    before = len(server.gets("/p/1.jpg"))
    assert get(list_task)[0] == 0
    assert (len(server.gets("/p/1.jpg")), len(server.gets("/p/2.jpg"))) == (before, 2)


@pytest.mark.parametrize(
    ("name", "url", "says"),
    [
        ("a.jpg", "https://example.org/p/a.jpg", "is not under"),
        ("../a.jpg", "{url}/p/a.jpg", "is outside the folder"),
    ],
)
def test_a_list_that_leads_elsewhere(
    list_task: str, get: Get, server: FileServer, name: str, url: str, says: str
) -> None:
    server.files["/list.json"] = listing(server, **{name: url.format(url=server.url)})
    code, err = get(list_task)
    assert code == 2
    assert says in err
    assert not server.gets("/p/0.jpg")


def test_a_kill_between_the_files_of_the_hub(
    hub_server: FileServer, get: Get, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The first shard is in its place, the second is not."""
    from emu2eval.doctor.get import place

    moved = place._move

    def killed(source: Path, target: Path) -> None:
        if target.name.startswith("val2014-00001"):
            raise Killed
        moved(source, target)

    shards = tmp_path / "data/hub/lmms-lab/OK-VQA/data"
    shards.mkdir(parents=True)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(place, "_move", killed)
        get("okvqa", "val", source="hub")
    assert len(list(shards.iterdir())) == 1
    assert get("okvqa", "val", source="hub")[0] == 0
    assert len(list(shards.iterdir())) == 2
    assert not (shards.parent / ".emu2eval").exists()
    assert "okvqa, val: complete" in get("okvqa", "val", source="hub")[1]


def test_an_archive_that_the_user_brought_is_used(
    task: MakeData, get: Get, server: FileServer, tmp_path: Path
) -> None:
    """Where a digest says that it is the right one."""
    digest = {"digest": f"sha256:{hashlib.sha256(IMAGES).hexdigest()}", "known": "Ann"}
    path = str(task(get=[{"url": f"{server.url}/photos.zip", **digest}]))
    data = tmp_path / "data"
    data.mkdir()
    (data / "photos.zip").write_bytes(IMAGES)
    assert get(path)[0] == 0
    assert not server.gets("/photos.zip")
    assert files_below(data) == WHOLE | KEPT | {"photos.zip"}
    for photo in (data / "photos").iterdir():
        photo.unlink()
    (data / "photos").rmdir()
    (data / "photos.zip").write_bytes(IMAGES[:-1])
    assert get(path)[0] == 0
    assert len(server.gets("/photos.zip")) == 1


def test_many_files_have_one_bar() -> None:
    from rich.console import Console

    items = [
        Item(f"{n}.jpg", Parcel("", Path(f"{n}.jpg"), size=10), RemoteFile(url="https://a.org/b"))
        for n in range(21)
    ]
    order = Order("photos", "", "", Path("photos"), (), tuple(items))
    bars = GetBars(Console(force_terminal=True, file=io.StringIO()), [order])
    for have in (4, 10, 2, 10):  # begun anew in between
        bars.came("3.jpg", have, 10)
    bars.came("4.jpg", 5, 10)
    (task,) = bars.progress.tasks
    assert (task.description, task.completed, task.total) == ("21 files", 15, 210)
