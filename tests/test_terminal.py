"""What data, names and replies hold never takes hold of a terminal, a spreadsheet or a page."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from emu2eval import evaluate
from emu2eval.cli.streams import Lenient, stopping
from emu2eval.report.formats import csv_rows, markdown_text

EVIL = "\x1b]0;owned\x07\x1b[2Jred\x9b31m"


@pytest.fixture
def run(make_task: Any, make_model: Any, tmp_path: Path) -> Path:
    task = make_task(queries=3, title=f"Squares {EVIL}")
    model = make_model(name="robot", default=f"red {EVIL}")
    (result,) = evaluate(str(task), str(model), out=tmp_path / "runs")
    return result.folder


@pytest.mark.parametrize(
    "verb",
    [
        ["table"],
        ["table", "--format", "markdown"],
        ["table", "--format", "csv"],
        ["show", "--run"],
        ["score"],
    ],
    ids=" ".join,
)
def test_control_characters_are_written_out(run: Path, program: Any, verb: list[str]) -> None:
    code, printed, errors = program(*verb, str(run))
    assert code == 0, errors
    for text in (printed, errors):
        assert not {character for character in text if character != "\n" and ord(character) < 32}
        assert "\x9b" not in text and "\x7f" not in text


def test_what_a_model_said_can_still_be_read(run: Path, program: Any) -> None:
    _, printed, _ = program("show", "--run", str(run))
    assert r"\x1b]0;owned\x07" in printed


def test_curves_with_control_characters_and_dollars_are_xml(
    run: Path, program: Any, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    code, *_ = program("curves", str(run), "--file", str(tmp_path / "c.svg"))
    assert code == 0
    ElementTree.parse(tmp_path / "c.svg")


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-cmd", "@x", "\tx"])
def test_a_text_of_a_csv_is_no_formula(text: str) -> None:
    (_, row) = csv.reader(io.StringIO(csv_rows([{"a": text}])))
    assert row == ["'" + text]


@pytest.mark.parametrize("value", [-1.5, "-0.25", 1e-9, -1e22, float("-inf")])
def test_a_number_of_a_csv_stays_one(value: Any) -> None:
    (_, row) = csv.reader(io.StringIO(csv_rows([{"a": value}])))
    assert float(row[0]) == float(value)


def test_a_cell_of_markdown_stays_one_cell() -> None:
    assert markdown_text("a|b\n<script>") == r"a\|b &lt;script&gt;"


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_messages_that_cannot_be_written_end_nothing() -> None:
    for stream in (Lenient(Broken()), Lenient(None)):
        assert stream.write("a") == 1
        stream.flush()
        assert not stream.isatty()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    ("redirect", "environment", "code"),
    [
        ("2>/dev/full", {}, 0),
        ("2>&-", {}, 0),
        (">/dev/full", {}, 2),
        ("2>&1 | head -1", {}, 0),
        ("", {"PYTHONIOENCODING": "ascii"}, 0),
        ("", {"PYTHONIOENCODING": "cp1252"}, 0),
    ],
    ids=["full", "closed", "no room for the table", "head", "ascii", "cp1252"],
)
def test_a_run_ends_whatever_becomes_of_what_it_says(
    make_task: Any,
    make_model: Any,
    tmp_path: Path,
    redirect: str,
    environment: dict[str, str],
    code: int,
) -> None:
    task, model = make_task(queries=3), make_model(default="red → 红")
    command = (
        f"{sys.executable} -m emu2eval run --task {task} --model {model} --out {tmp_path}/runs"
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} {redirect}"],
        capture_output=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert len((folder / "scores.jsonl").read_text(encoding="utf-8").splitlines()) == 3


@pytest.fixture(params=["SIGINT", "SIGTERM", "SIGHUP"])
def number(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal as a terminal's programs have it; whoever runs the tests may have told us to ignore it."""
    found = getattr(signal, request.param, None)
    if found is None:
        pytest.skip(f"this system has no {request.param}")
    before = signal.signal(found, signal.SIG_DFL)
    yield found
    signal.signal(found, before)


def test_what_a_scheduler_sends_stops_as_the_keyboard_does(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), stopping() as caught:
        os.kill(os.getpid(), number)
        time.sleep(10)
    assert caught == [number]
    assert signal.getsignal(number) is signal.SIG_DFL


def test_what_was_told_to_be_ignored_stays_ignored(number: int) -> None:
    signal.signal(number, signal.SIG_IGN)
    with stopping() as caught:
        os.kill(os.getpid(), number)
    assert caught == []


@pytest.mark.parametrize("verb", ["table", "score", "compare", "keep", "report", "ls"])
def test_a_verb_that_is_stopped_ends_with_130(
    verb: str, program: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from emu2eval.runs import locate

    def stopped(*_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    for name in ("find", "folders", "one"):
        monkeypatch.setattr(locate, name, stopped)
    more = {"ls": ["runs"], "compare": ["a", "b"]}.get(verb, ["a"])
    code, _, errors = program(verb, *more)
    assert code == 130
    assert "Traceback" not in errors


def test_stopped_while_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    from emu2eval import __main__, cli

    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", stopped)
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 130
