"""Emu2 at full size with random weights: memory against `plan`, speed by batch, what a token costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from emu2eval.adapters.emu2.budget import measure
from emu2eval.adapters.emu2.config import Emu2Config
from emu2eval.adapters.emu2.inference import Emu2Inference
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.local.encoded import Encoded
from emu2eval.adapters.local.search import Found, Search
from gpu_steps.bench import GIB, Bench, no_painter, unlike, words


def weights(bench: Bench) -> object:
    started = time.perf_counter()
    with bench.peak() as peak:
        model = bench.model
        bench.wait()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": time.perf_counter() - started,
        **peak,
    }


def decode(bench: Bench) -> object:
    """Prefill and step by batch and length, five beams, and the peak beside what `plan` sets aside."""
    found: dict[str, object] = {}
    new = 9
    batches, lengths = ((1, 4), (32,)) if bench.tiny else ((1, 4, 8, 16, 32), (128, 501, 893))
    for batch in batches:
        for length in lengths:
            if bench.late:
                found[f"{batch} x {length}"] = "no time was left"
                continue
            prompts, inference = unlike(batch, length), bench.inference()
            need = measure(
                bench.config,
                positions=length + new,
                batch=batch,
                beams=5,
                new_tokens=new,
                dtype=bench.dtype,
                quantize=None,
                painter={},
            )
            planned = (need.weights + need.cache + need.activations(True, False)) / GIB

            def answer(tokens: int) -> object:
                return inference.texts(prompts, Search(tokens, tokens, 5))

            try:
                with bench.peak() as peak:
                    first = bench.seconds(lambda: answer(1))
                    whole = bench.seconds(lambda: answer(new))
                figures = {"prefill_s": first, "step_ms": (whole - first) / (new - 1) * 1e3}
                found[f"{batch} x {length}"] = {**figures, **peak, "planned_gib": planned}
            except torch.OutOfMemoryError:
                found[f"{batch} x {length}"] = {"out_of_memory": True, "planned_gib": planned}
    return found


def first_token(bench: Bench) -> object:
    """Answers of one token come from the pass over the prompt; those of n from n - 1 passes more."""
    prompts = unlike(8, 32 if bench.tiny else 501)
    inference = bench.inference()
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    found: dict[str, object] = {}
    for beams in (1, 5):
        for new in (1, 4):
            search = Search(new, new, beams)
            hook = bench.model.decoder.register_forward_hook(count)
            passes = 0
            inference.texts(prompts, search)
            hook.remove()
            took = bench.seconds(partial(inference.texts, prompts, search))
            found[f"{beams} beams, {new} tokens"] = {"passes": passes, "s": took}
    return found


def tokens(bench: Bench) -> object:
    """What a token costs the host: operations launched, copies and waits, and the device's share of time."""
    from torch.profiler import ProfilerActivity, profile

    found: dict[int, object] = {}
    inference, new = bench.inference(), 3
    cuda = bench.cuda
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    for batch in (1, 4) if bench.tiny else (1, 4, 32):
        if bench.late:
            found[batch] = {}
            continue
        prompts = unlike(batch, 32 if bench.tiny else 501)

        def profiled(count: int) -> tuple[float, int, int, int, int]:
            search = Search(count, count, 5)
            inference.texts(prompts, search)
            with profile(activities=kinds) as trace:
                inference.texts(prompts, search)
                bench.wait()
            events = trace.key_averages()

            def counted(*names: str) -> int:
                return sum(e.count for e in events if any(name in e.key for name in names))

            device = sum(e.self_device_time_total for e in events) / 1e6
            copies = counted("Memcpy DtoH"), counted("Memcpy HtoD")
            return device, counted("LaunchKernel"), *copies, counted("StreamSynchronize")

        def plain(count: int) -> float:
            search = Search(count, count, 5)
            return bench.seconds(lambda: inference.texts(prompts, search))

        one, more = profiled(1), profiled(new)
        each = [(b - a) / (new - 1) for a, b in zip(one, more, strict=True)]
        wall = (plain(17) - plain(1)) / 16
        found[batch] = {
            "ms": wall * 1e3,
            "device_ms": each[0] * 1e3,
            "device_share": each[0] / wall,
            "launches": each[1],
            "copies_to_host": each[2],
            "copies_to_device": each[3],
            "waits": each[4],
        }
    return found


def batches(bench: Bench) -> object:
    """How far the others of a batch move a row's logits, and what rounding them to the dtype would tie.

    A decoder of four layers in float32 says how much of that is rounding.
    """
    prompts = unlike(16, 30 if bench.tiny else 120)

    def first(inference: Emu2Inference, count: int) -> Tensor:
        rows, cache = inference.reader.rows(prompts[:count]), inference.reader.cache()
        return inference.reader.read(rows, prompts[:count], cache, 0, rows.length)[0, -1]

    def moved(inference: Emu2Inference) -> dict[str, float]:
        alone = first(inference, 1)
        return {
            f"moved_beside_{count - 1}": float((first(inference, count) - alone).abs().max())
            for count in (2, 4, 16)
        }

    inference = bench.inference(reuse=False)
    alone = first(inference, 1)
    top = alone.topk(100).values
    sizes = Emu2Config(
        replace(bench.config.vision, layers=1), replace(bench.config.decoder, num_hidden_layers=4)
    )
    with bench.device:
        small = Emu2(sizes).eval()
    exact = Emu2Inference(small, words(2), no_painter, False)
    return {
        "largest_logit": float(alone.max()),
        "deviation": float(alone.std()),
        "distinct_of_top_100": len(set(top.tolist())),
        "distinct_if_rounded": len(set(top.to(bench.dtype).tolist())),
        **moved(inference),
        "float32": {"deviation": float(first(exact, 1).std()), **moved(exact)},
    }


def graphs(bench: Bench) -> object:
    """A step of decoding as it is launched, and replayed as one CUDA graph: what the host costs, whether a
    graph keeps the bits; and whole answers with `graphs: true`. Nothing is captured on a CPU."""
    length = 32 if bench.tiny else 501
    found: dict[str, object] = {}
    for batch in (1,) if bench.tiny else (1, 4, 32):
        inference, prompts = bench.inference(), unlike(batch, length)
        reader = inference.reader
        inference.prefix = None
        rows = reader.rows(prompts)
        known, _ = inference._read(rows, prompts, 0)
        mask = None
        if rows.padded:
            mask = torch.nn.functional.pad(rows.mask.repeat_interleave(5, 0), (0, 1), value=1)
        random = torch.Generator(bench.device).manual_seed(0)
        ids = torch.randint(5, 400, (5 * batch, 1), generator=random, device=bench.device)
        embeds = bench.model.embed(ids)

        def step() -> Tensor:
            own = reader.spread(known, 5)
            return bench.model.logits(bench.model.read(embeds, mask, own)[:, -1])

        eager = step().clone()
        replay = _captured(step) if bench.cuda else step
        found[str(batch)] = {
            "ms": bench.seconds(step, 10) * 1e3,
            "replayed_ms": bench.seconds(replay, 10) * 1e3,
            "moved": float((replay() - eager).abs().max()),
            **_recorded(bench, prompts),
        }
    return found


def _recorded(bench: Bench, prompts: Sequence[Encoded]) -> dict[str, object]:
    """Milliseconds a token of answers by the usual steps and by recorded ones, and how many are the same."""
    found, kept = {}, []
    for name, graphs in (("growing", False), ("recorded", True)):
        inference = Emu2Inference(bench.model, words(2), no_painter, graphs=graphs)

        def answer(tokens: int, inference: Emu2Inference = inference) -> list[Found]:
            return inference.texts(prompts, Search(tokens, tokens, 5))

        # Two tokens take one step, which is never recorded; the rest bears the recording.
        few, many = (bench.seconds(partial(answer, n)) for n in (2, 18))
        found[f"{name}_answers_ms"] = (many - few) / 16 * 1e3
        kept.append(answer(18))
    same = sum(one.ids == other.ids for one, other in zip(*kept, strict=True))
    return {**found, "same_answers": f"{same} of {len(prompts)}"}


def _captured(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    cuda: Any = torch.cuda
    aside = cuda.Stream()
    aside.wait_stream(cuda.current_stream())
    with cuda.stream(aside):
        for _ in range(3):
            step()
    cuda.current_stream().wait_stream(aside)
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        found = step()

    def replay() -> Tensor:
        graph.replay()
        return found

    return replay


def demonstrations(bench: Bench) -> object:
    """A query after 16 fixed demonstrations against one without, with and without reading them once."""
    shots = 8 if bench.tiny else 1200
    query = 24 if bench.tiny else 80
    search = Search(10, 10, 5)
    found = {}
    for batch in (1, 8):
        times = {}
        for name, before, reuse in (
            ("zero", 0, True),
            ("without", shots, False),
            ("with", shots, True),
        ):
            inference = bench.inference(reuse)
            head = words(before) if before else None

            def asked(number: int) -> list[Encoded]:
                own = [words(query, 1 + number * batch + i) for i in range(batch)]
                if head is None:
                    return own
                return [Encoded(head.ids + one.ids, head.slots + one.slots) for one in own]

            for number in range(2):
                inference.texts(asked(number), search)
            times[name] = bench.seconds(lambda: inference.texts(asked(3), search), 2)
        found[batch] = {
            "zero_shots_s": times["zero"],
            "without": times["without"] / times["zero"],
            "with": times["with"] / times["zero"],
        }
    return found


def regression(bench: Bench) -> object:
    """The visual embeddings of an image, on the cache: seconds an image by how many at once, and how far the
    others move those of the first."""
    found = {}
    prompts = [words(40 if bench.tiny else 120, seed=i) for i in range(8)]
    inference = bench.inference()
    alone = inference.regress(prompts[:1])[0].float()
    moved = {"deviation": float(alone.std())}
    for count in (1, 4, 8):
        some = prompts[:count]
        found[count] = bench.seconds(partial(inference.regress, some)) / count
        moved[f"{count} at once"] = float((inference.regress(some)[0].float() - alone).abs().max())
    return {"seconds_an_image": found, "moved": moved}
