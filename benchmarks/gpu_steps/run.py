"""Whole runs through the engine: how long the device waits for it, and models that lie in memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from emu2eval.adapters.emu2.live import LiveEmu2
from emu2eval.adapters.emu2.settings import Emu2Settings
from emu2eval.adapters.emu2.tokenizer import Tokenizer
from emu2eval.types import Request, Response
from gpu_steps.bench import ROOT, Bench

NANO = ROOT / "models" / "emu2-nano"


class LargeTokenizer(Tokenizer):
    """emu2-nano's words for a model of more: a word that it does not know says nothing."""

    def __init__(self, path: Path, size: int):
        super().__init__(path)
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        return super().decode(
            [i for i in ids if i < super(LargeTokenizer, self).size], special=special
        )


class Watched(LiveEmu2):
    """Notes from when to when it answers, the device's work included."""

    def __init__(self, bench: Bench, batch: int):
        words = LargeTokenizer(NANO / "tokenizer.model", bench.config.decoder.vocab_size)
        super().__init__(
            bench.model, words, None, Emu2Settings(checkpoint="in memory", batch=batch, workers=4)
        )
        self._wait = bench.wait
        self.spans: list[tuple[float, float]] = []

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        started = time.perf_counter()
        found = super().answer(requests)
        self._wait()
        self.spans.append((started, time.perf_counter()))
        return found


def engine(bench: Bench) -> object:
    """A run over photographs, four random demonstrations each: the share of time between the first batch and
    the last in which the model had none, and on CUDA that in which no kernel ran."""
    from load import photographs  # the benchmark beside gpu.py

    from emu2eval import evaluate

    batch, batches = (2, 3) if bench.tiny else (8, 8)
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        task = photographs(Path(name) / "task", batch * batches, pool=batch * batches * 4)
        adapter = Watched(bench, batch)
        with _kernels(bench) as busy:
            evaluate(
                str(task), adapter, name="random", shots=4, out=Path(name) / "runs", batch=batch
            )
    spans = sorted(adapter.spans)
    wall = spans[-1][1] - spans[0][0]
    answering = sum(end - start for start, end in spans)
    gaps = [after - end for (_, end), (after, _) in pairwise(spans)]
    found |= {
        "batches": len(spans),
        "s": wall,
        "model_idle_share": 1 - answering / wall,
        "longest_gap_ms": max(gaps) * 1e3,
    }
    if bench.cuda:
        found["device_busy_share"] = busy() / wall
    return found


@contextmanager
def _kernels(bench: Bench) -> Iterator[Callable[[], float]]:
    """Seconds of the device's kernels within; 0 without a GPU."""
    if not bench.cuda:
        yield lambda: 0.0
        return
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        yield lambda: sum(e.self_device_time_total for e in trace.key_averages()) / 1e6


def in_memory(bench: Bench) -> object:
    """emu2-nano as an object on the device, beside the same from its files: answers; weights after."""
    from emu2eval import evaluate
    from emu2eval.adapters.emu2.checkpoint import load_model, open_checkpoint
    from emu2eval.adapters.local.placement import Placement
    from emu2eval.runs.answers import from_line

    place: Any = 0 if bench.cuda else "cpu"
    placement = Placement({"": place}, place, place, ())
    model = load_model(open_checkpoint(NANO), dtype=torch.float32, placement=placement)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    told: list[dict[str, str | None]] = []
    with tempfile.TemporaryDirectory() as name:
        for given, device, extra in (
            ("emu2-nano", str(bench.device), {"changes": ["model.settings.dtype=float32"]}),
            (model, None, {"processor": NANO / "tokenizer.model", "name": "object"}),
        ):
            options: dict[str, Any] = {"device": device, **extra}
            (result,) = evaluate(
                "easy-vqa-binding",
                given,
                shots=4,
                limit=4 if bench.tiny else 100,
                out=Path(name) / str(len(told)),
                batch=8,
                **options,
            )
            lines = (result.folder / "responses.jsonl").read_bytes().splitlines(keepends=True)
            told.append({one.id: one.text for one in map(from_line, lines)})
    files, here = told
    return {
        "n": len(files),
        "same": sum(files[each] == here[each] for each in files),
        "weights_changed": sum(
            not torch.equal(weight, before[name]) for name, weight in model.state_dict().items()
        ),
    }
