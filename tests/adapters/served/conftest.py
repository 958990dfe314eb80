"""Engines that are stand-ins, and a checkpoint that none of them reads."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emu2eval import registry
from emu2eval.adapters.openai import client
from emu2eval.adapters.served import adapter, process
from emu2eval.adapters.served.adapter import ServedAdapter
from emu2eval.adapters.served.engines import ENGINES


@dataclass
class StandIns:
    """folder: of orders and of what the stand-ins leave behind."""

    folder: Path

    def order(self, **orders: str) -> None:
        for name, text in orders.items():
            (self.folder / name).write_text(text)

    @property
    def started(self) -> list[dict[str, Any]]:
        """What each says of itself, in the order in which they were started."""
        files = sorted(self.folder.glob("started-*.json"), key=lambda path: path.stat().st_mtime_ns)
        return [json.loads(file.read_text()) for file in files]

    def wait_for_start(self, count: int = 1) -> dict[str, Any]:
        until = time.monotonic() + 30
        while len(self.started) < count:
            assert time.monotonic() < until
            time.sleep(0.005)
        return self.started[-1]


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIns:
    """Every engine is a stand-in, and no time is lost in waiting for one."""
    programs, folder = tmp_path / "bin", tmp_path / "orders"
    programs.mkdir()
    folder.mkdir()
    source = Path(__file__).with_name("stand_in.py").read_text()
    for engine in ENGINES.values():
        program = programs / engine.program
        program.write_text(f"#!{sys.executable} -IS\n{source}")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN", str(folder))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(adapter, "_LONGEST", 0.02)
    monkeypatch.setattr(adapter, "_SHORTEST", 0.01)
    monkeypatch.setattr(process, "GRACE", 1.0)
    return StandIns(folder)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-vl"
    folder.mkdir()
    text = {"num_attention_heads": 28, "num_key_value_heads": 4}
    (folder / "config.json").write_text(
        json.dumps({"model_type": "qwen2_5_vl", "text_config": text})
    )
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


Served = Callable[..., ServedAdapter]


@pytest.fixture
def served(checkpoint: Path) -> Served:
    """The adapter as a model file builds it."""

    def make(engine: str = "vllm", **settings: Any) -> ServedAdapter:
        whole = {"checkpoint": str(checkpoint), "engine": engine, **settings}
        made: ServedAdapter = registry.build("adapter", "served", whole)
        return made

    return make


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def gone(*pids: int) -> bool:
    """Whether the processes end within the time that is needed on a busy machine."""
    until = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    return not any(map(alive, pids))
