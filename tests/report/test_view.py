"""`emu2eval view`: the page served on the loopback, and runs followed while they are written."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.errors import ConfigError
from emu2eval.report.view.live_page import LivePage
from emu2eval.report.view.server import View
from emu2eval.runs import locate
from emu2eval.runs.scores import REPORT, SCORES
from emu2eval.runs.store import ANSWERS

Make = Callable[..., Path]


@pytest.fixture
def folder(make_task: Make, make_model: Make, tmp_path: Path) -> Path:
    """Of one run of 12 answers, one of them an error."""
    model = make_model("red", default="red", fail=["e 5?"])
    (result,) = evaluate(str(make_task(12, 20)), str(model), shots=[2], out=tmp_path / "runs")
    return result.folder


@contextmanager
def serving(shown: LivePage) -> Iterator[View]:
    view = View(shown)
    thread = threading.Thread(target=view.serve)
    thread.start()
    try:
        yield view
    finally:
        view.close()
        thread.join()


def asked(view: View, path: str, **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", view.port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def begun(folder: Path, lines: int) -> list[bytes]:
    """Makes the run one that is under way, with so many answers; returns the others."""
    (folder / REPORT).unlink()
    (folder / SCORES).unlink()
    path = folder / ANSWERS
    every = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(every[:lines]))
    return every[lines:]


def test_only_who_knows_the_address_is_answered(folder: Path) -> None:
    shown = LivePage(lambda: [folder])
    shown.look()
    with serving(shown) as view:
        own = f"/{view.token}"
        status, page, headers = asked(view, f"{own}/")
        assert status == 200 and b"<title>emu2eval report" in page
        assert (
            headers["Cache-Control"] == "no-store"
            and headers["X-Content-Type-Options"] == "nosniff"
        )
        assert b"connect-src 'self'" in page and b"file:" not in page.partition(b"</head>")[0]
        for path in (
            "/",
            "/wrong/",
            f"{own}x/",
            f"{own}/../run.json",
            f"{own}/run.json",
            own[:-1] + "/",
        ):
            assert asked(view, path)[0] == 404, path
        for host in ("evil.example", f"evil.example:{view.port}", "127.0.0.1", ""):
            assert asked(view, f"{own}/", Host=host)[0] == 403, host
        assert asked(view, f"{own}/", Host=f"localhost:{view.port}")[0] == 200
        # One port, one server.
        with pytest.raises(ConfigError, match=str(view.port)):
            View(shown, view.port)


def test_images_are_those_of_the_runs_by_their_digest(folder: Path, tmp_path: Path) -> None:
    shown = LivePage(lambda: [folder])
    shown.look()
    (digest, *_) = shown._images
    (tmp_path / "secret.png").write_bytes(b"secret")
    with serving(shown) as view:
        own = f"/{view.token}/image"
        for path in (f"{own}/{digest}", f"{own}/{digest}/whole"):
            status, data, headers = asked(view, path)
            assert (status, headers["Content-Type"], data[:4]) == (200, "image/webp", b"RIFF")
        for name in ("0" * 64, "../secret.png", "%2e%2e/secret.png", digest[:-1], f"{digest}/x"):
            assert asked(view, f"{own}/{name}")[0] == 404, name


def test_a_run_is_followed_and_shown_when_it_is_done(folder: Path) -> None:
    kept = {name: (folder / name).read_bytes() for name in (REPORT, SCORES)}
    rest = begun(folder, 5)
    shown = LivePage(lambda: [folder])
    shown.look()

    def state() -> dict[str, Any]:
        shown.look()
        found: dict[str, Any] = json.loads(shown.state)
        return found

    first = state()
    (run,) = first["running"]
    assert (run["done"] + run["failed"], run["total"], run["model"]) == (5, 12, "red")
    with (folder / ANSWERS).open("ab") as file:
        file.write(b"".join(rest[:-1]) + rest[-1][:10])  # the last one is being written
    (run,) = state()["running"]
    assert (run["done"], run["failed"]) == (10, 1)
    # Of the answered ones the scorer says what they are worth so far, and of the newest.
    assert run["metric"] == "exact_match" and 0 < run["value"] < 100 and run["low"] < run["value"]
    assert len(run["newest"]) == 6
    right = [each for each in run["newest"] if each["error"] is None]
    assert {each["reply"] for each in right} == {"red"} and {each["value"] for each in right} <= {
        0,
        1,
    }
    assert all(
        each["image"].removeprefix("image/") in shown._images
        for each in run["newest"]
        if each["value"]
    )
    with (folder / ANSWERS).open("ab") as file:
        file.write(rest[-1][10:])
    assert state()["running"][0]["done"] == 11
    for name, data in kept.items():
        (folder / name).write_bytes(data)
    last = state()
    assert last["version"] > first["version"] and last["running"] == []
    assert b'"task":"squares"' in shown.page


def test_without_its_data_a_run_is_followed_too(folder: Path, tmp_path: Path) -> None:
    begun(folder, 5)
    (tmp_path / "squares" / "test.jsonl").unlink()
    shown = LivePage(lambda: [folder])
    shown.look()
    (run,) = json.loads(shown.state)["running"]
    assert (run["total"], run["value"], run["done"] + run["failed"]) == (None, None, 5)
    assert b'"runs":[]' in shown.page


def test_the_verb_prints_the_address_and_ends(
    folder: Path, program: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def interrupted(self: View, ready: Callable[[], object]) -> None:
        ready()
        seen.append(self.port)
        self._server.server_close()
        raise KeyboardInterrupt

    monkeypatch.setattr(View, "serve", interrupted)
    code, out, said = program("view", "--no-browser", "--out", str(folder.parent))
    assert code == 0 and out.startswith(f"http://127.0.0.1:{seen[0]}/") and "closed" in said
    assert program("view", "nothing-like-this", "--no-browser")[0] == 2


def test_a_results_folder_may_be_empty(tmp_path: Path) -> None:
    shown = LivePage(lambda: locate.find([], tmp_path))
    shown.look()
    assert json.loads(shown.state) == {"version": 1, "running": []}
