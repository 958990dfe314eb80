"""Kernels by themselves: attention behind a shared beginning, scores of words, convolutions."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from emu2eval.adapters.emu2.config import VisionConfig
from emu2eval.adapters.local import attention, head
from emu2eval.adapters.local import kernels as torch_kernels
from gpu_steps.bench import Bench

SHAPES = (
    # dtype, rows, new positions, shared ones before, own ones, padded
    (torch.bfloat16, 5, 1, 500, 8, False),
    (torch.bfloat16, 160, 1, 800, 8, False),
    (torch.bfloat16, 1, 600, 500, 600, False),
    (torch.bfloat16, 4, 200, 500, 200, True),
    (torch.float32, 4, 100, 300, 100, False),
)


def kernels(bench: Bench) -> object:
    """Attention over a shared beginning: each fused kernel, float32 scores, and joined copies; and which
    kernels are right for heads of which width."""
    found: dict[str, object] = {}
    for dtype, rows, new, before, own, padded in SHAPES:
        dtype = dtype if bench.cuda else torch.float32
        width = 128
        if bench.tiny:
            before, new, own, width = before // 10, -(-new // 10), -(-own // 10), 32
        heads = 4 if bench.tiny else 52
        random = torch.Generator(bench.device).manual_seed(0)

        def made(count: int, length: int) -> Tensor:
            shape = (count, heads, length, width)
            return torch.randn(shape, generator=random, device=bench.device).to(dtype)

        query = made(rows, new)
        keys, values = (made(1, before), made(rows, own)), (made(1, before), made(rows, own))
        mask = None
        if padded:
            mask = torch.ones(rows, 1, new, own, dtype=torch.bool, device=bench.device).tril(
                own - new
            )
            mask[1::2, ..., : own // 4] = False
        module = nn.Module().eval()

        def run(part: Callable[..., Any], joins: bool, kind: torch.dtype) -> Callable[[], Tensor]:
            wide: Any = tuple(tuple(p.to(kind) for p in parts) for parts in (keys, values))
            asked, ways, fused = query.to(kind), cast(Any, attention), cast(Any, torch_kernels)

            def call() -> Tensor:
                kept = fused.part, ways._joins
                fused.part, ways._joins = part, lambda _: joins
                try:
                    return attention.attend(module, asked, wide[0], wide[1], mask)[0]
                finally:
                    fused.part, ways._joins = kept

            return call

        exact = run(torch_kernels.scored, False, torch.float32)().double()
        ways = {
            "chosen": run(torch_kernels.part, False, dtype),
            "scores": run(torch_kernels.scored, False, dtype),
            "joined": run(torch_kernels.part, True, dtype),
        }
        for kernel in torch_kernels.right(query):
            if kernel.takes(query, query, mask):
                ways[kernel.name] = run(partial(_by, kernel), False, dtype)
        seen = (slice(None), slice(own // 4, None)) if padded else (slice(None),)
        case = f"{rows} rows, {new} new after {before}{', padded' if padded else ''}, {dtype}"
        found[case] = {
            name: {
                "ms": bench.seconds(way, 10) * 1e3,
                # A place of padding is nobody's answer.
                "error": float((way().double() - exact)[seen].abs().max()),
            }
            for name, way in ways.items()
        }
    for width in (64,) if bench.tiny else (64, 72, 80, 96, 100, 128, 256):
        for dtype in torch_kernels.APART:
            query = torch.zeros(1, 1, 1, width, dtype=dtype, device=bench.device)
            torch_kernels._RIGHT.clear()
            started = time.perf_counter()
            right = [kernel.name for kernel in torch_kernels.right(query)]
            took = (time.perf_counter() - started) * 1e3
            found[f"heads of {width}, {dtype}"] = {"right": right, "check_ms": took}
    return found


def _by(kernel: torch_kernels.Kernel, *given: Any, causal: bool = False) -> Any:
    run: Any = kernel.run
    return run(*given, causal)


def scores(bench: Bench) -> object:
    """Scores of words as a head of bfloat16 rounds them, and kept in float32: time, error, ties."""
    width, words = (64, 500) if bench.tiny else (6656, 32272)
    random = torch.Generator(bench.device).manual_seed(0)

    def made(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, device=bench.device)

    weight = made(words, width).mul_(0.1).bfloat16()
    found = {}
    for rows in (1, 5, 160):
        hidden = made(rows, width).bfloat16()
        exact = hidden[:1].double() @ weight.double().T
        likely = exact[0].topk(100).indices
        ways: dict[str, Callable[[], Tensor]] = {
            "rounded": partial(nn.functional.linear, hidden, weight),
            "float32": partial(head.wide_scores, hidden, weight),
        }
        found[rows] = {
            name: {
                "ms": bench.seconds(way, 10) * 1e3,
                "error": float((way()[:1].double() - exact).abs().max()),
                "distinct_of_top_100": len(set(way()[0, likely].tolist())),
            }
            for name, way in ways.items()
        }
    return {"largest": float(exact.max()), "by_rows": found}


def precision(bench: Bench) -> object:
    """A small vision tower in float32: how far from the CPU, with convolutions in TF32 and without."""
    from emu2eval.adapters.emu2.vision import EvaVisionTower

    torch.manual_seed(0)
    side, count = (56, 2) if bench.tiny else (224, 8)
    config = VisionConfig(image_size=side, width=448, layers=4, head_width=112)
    tower, images = EvaVisionTower(config).eval(), torch.randn(count, 3, side, side)
    here = tower(images)
    tower.to(bench.device)
    found, before = {}, torch.backends.cudnn.allow_tf32
    for short in (True, False):
        torch.backends.cudnn.allow_tf32 = short
        apart = (tower(images.to(bench.device)).cpu() - here).abs().max()
        found["tf32" if short else "float32"] = float(apart / here.abs().max())
    torch.backends.cudnn.allow_tf32 = before
    return found
