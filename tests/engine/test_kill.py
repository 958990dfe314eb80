"""A run that is killed at random moments, for real, ends as one that never was."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate


def start(task: Path, model: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "emu2eval.cli",
        "run",
        "--task",
        str(task),
        "--model",
        str(model),
    ]
    options = ["--shots", "3", "--trials", "2", "--out", str(out)]
    return subprocess.Popen(
        [*command, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Started in the background, the tests themselves may be deaf to it, and so would this be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def stored_keys(folder: Path) -> set[str]:
    path = folder / "responses.jsonl"
    whole = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return {json.loads(line)["key"] for line in whole}


@pytest.mark.parametrize(("seed", "most"), [(0, 4), pytest.param(1, 12, marks=pytest.mark.slow)])
def test_killed_at_random_and_continued(
    make_task: Any, make_model: Any, tmp_path: Path, seed: int, most: int
) -> None:
    task = make_task(queries=10 * most + 20, pool=40)
    log = tmp_path / "log"
    model = make_model(
        log=str(log), delay=0.02, batch=3, replies={"square 1": "red"}, default="blue"
    )
    (whole,) = evaluate(str(task), str(model), shots=[3], trials=2, out=tmp_path / "whole")
    log.unlink()

    chance = random.Random(seed)
    folder = tmp_path / "killed" / whole.folder.name
    kills = 0
    while True:
        before = stored_keys(folder)
        log.write_bytes(b"")
        process = start(task, model, tmp_path / "killed")
        if kills < most:
            # Until something happens a process only imports; kill it once it works, or now and then before.
            limit = time.monotonic() + 20
            while chance.random() > 0.02 and not log.stat().st_size and time.monotonic() < limit:
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 0.35))
            os.kill(process.pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        again = before & set(log.read_text().splitlines())
        assert not again, "asked twice"
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors.decode()
        kills += 1
    assert kills >= 3
    for name in ("scores.jsonl", "report.json"):
        killed, undisturbed = folder / name, whole.folder / name
        if name == "report.json":
            rows = [json.loads(p.read_text())["rows"] for p in (killed, undisturbed)]
            for row in [*rows[0], *rows[1]]:
                row.pop("seconds")  # the only thing that a kill may change
            assert rows[0] == rows[1]
        else:
            assert killed.read_bytes() == undisturbed.read_bytes()


def test_stopped_by_the_keyboard_it_says_how_to_go_on(
    make_task: Any, make_model: Any, tmp_path: Path
) -> None:
    task = make_task(queries=100)
    log = tmp_path / "log"
    model = make_model(log=str(log), delay=0.05, batch=1)
    process = start(task, model, tmp_path / "runs")
    limit = time.monotonic() + 30
    while (not log.exists() or log.stat().st_size < 200) and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"run the same command again to continue" in errors
    assert b"Traceback" not in errors
