"""Drawn answers and large batches on a device.

Which draws rounding changes, what drawing costs, which batch `--batch auto` ends with where memory is short.

    python benchmarks/generation.py [--device cuda] [--queries 300]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from emu2eval import evaluate
from emu2eval.adapters.local.sampling import Draws
from emu2eval.adapters.local.search import Sampling
from emu2eval.runs.store import RunStore
from emu2eval.testing import small_task
from emu2eval.watch import Watcher

HOT = {"settings.temperature": 2.0, "settings.max_new_tokens": 8}
MIB = 1 << 20


def answers(folder: Path, task: Path, device: str, batch: int, dtype: str) -> dict[Any, str]:
    changes = {"model": {**HOT, "settings.dtype": dtype}}
    (result,) = evaluate(
        task, "emu2-nano", shots=2, trials=2, batch=batch, device=device, changes=changes,
        out=folder / f"{device}-{dtype}-{batch}",
    )  # fmt: skip
    found = RunStore(result.folder).answers()
    return {(each.id, each.trial): each.raw or each.text or "" for each in found}


def rounding(folder: Path, device: str, queries: int) -> None:
    """Answers that differ from those of batch 1, and from those of the CPU."""
    task = small_task(folder, queries=queries, pool=20)
    for dtype in ("float32", "bfloat16"):
        alone = answers(folder, task, device, 1, dtype)
        for name, other in (
            ("batch 32", lambda: answers(folder, task, device, 32, dtype)),
            ("batch 128", lambda: answers(folder, task, device, 128, dtype)),
            ("the CPU, batch 32", lambda: answers(folder, task, "cpu", 32, dtype)),
        ):
            differing = _differing(alone, other)
            print(f"{dtype}, batch 1 against {name}: {differing} of {len(alone)} answers differ")


def _differing(alone: dict[Any, str], other: Callable[[], dict[Any, str]]) -> int:
    found = other()
    return sum(found[key] != text for key, text in alone.items())


def cost(device: str) -> None:
    """Milliseconds that drawing a token of every row takes, its copy from the device included."""
    for words in (32_000, 152_000):
        for rows in (8, 64):
            scores = torch.randn(rows, words, device=device) * 4
            for name, sampling in (
                ("temperature alone", Sampling(0.7)),
                ("top_p 0.9", Sampling(0.7, 0.9)),
            ):
                draws = Draws(sampling, [str(row) for row in range(rows)], [-1])
                draws(scores)
                started = time.perf_counter()
                for _ in range(5):
                    draws(scores)
                took = (time.perf_counter() - started) / 5 * 1e3
                print(f"{words:,} words, {rows} rows, {name}: {took:.1f} ms")


class Heard(Watcher):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def largest(folder: Path, family: str, room: int) -> None:
    """A small model of transformers with `room` bytes beside its weights: what is asked at a time."""
    from tests.adapters.huggingface import families

    listener = Heard()
    model = families.save(family, folder / family)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + room) / total)
    task = small_task(folder / "large", queries=600, pool=20)
    (result,) = evaluate(
        task, str(model), shots=16, batch="auto", device="cuda", watcher=listener, out=folder / "auto",
        changes={"task": {"demonstrations.chooser": "random"}},
    )  # fmt: skip
    torch.cuda.set_per_process_memory_fraction(1.0)
    row = result.rows[0]
    print(
        f"{family}, {room // MIB} MiB: {listener.notes[-1]}; {row.n} answered, {row.unscored} unscored"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--queries", type=int, default=300)
    own = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cost(own.device)
        if own.device.startswith("cuda"):
            for room in (40 * MIB, 160 * MIB, 4000 * MIB):
                largest(Path(folder) / str(room), "llava", room)
        rounding(Path(folder), own.device, own.queries)


if __name__ == "__main__":
    main()
