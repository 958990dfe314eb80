"""Benchmarks at sizes of a moment: they run, and give the figures that their tables rest on."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest

Import = Callable[[str], ModuleType]


def test_nine_images_are_asked_of_a_server_and_by_hand(
    benchmark_module: Import,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    load = benchmark_module("load")
    monkeypatch.setattr(load, "SERVICE", 0.0)
    load.photographs(tmp_path / "task", queries=3, pool=10)
    loop = asyncio.new_event_loop()
    made = loop.create_server(lambda: load.Server(random.Random(0), False), "127.0.0.1", 0)
    server = loop.run_until_complete(made)
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        load.show(server.sockets[0].getsockname()[1], tmp_path / "task", 3, "random")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["here"] > 0 and found["floor"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["load", "images", "scale"])
def test_a_quick_benchmark_ends_with_its_figures(name: str) -> None:
    folder = Path(__file__).parents[2] / "benchmarks"
    command = [sys.executable, str(folder), "--quick", "--only", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    assert "what was promised" in done.stdout
