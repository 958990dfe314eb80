"""Images before the model: how many a second are decoded, resized and normalised, and by what.

JPEGs of 640 x 480 with the detail of a photograph, prepared as the shipped model files say. CPU times of one
thread by step; then two workers, as threads and as processes by turns: cores kept busy (CPU seconds over wall
seconds), which other work on the machine lowers alike. Images a second on N cores are N times one core's: an
extrapolation. torchvision is measured where it is installed.
"""

from __future__ import annotations

import io
import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import cache, partial
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from measuring import arguments, cpu, headline, in_turn, table
from PIL import Image as PILImage

from emu2eval.adapters.emu2.vision import pixels
from emu2eval.media import images
from emu2eval.types import Image

WANTED = 30
"""Images a second that a model of 7 billion parameters takes on one GPU, at least."""
BACKENDS = {"pillow": "Pil", "torchvision": ""}
QWEN = {"size": {"shortest_edge": 200_704, "longest_edge": 1_003_520}}
WHOLE = {"do_image_splitting": False}
MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "Qwen2.5-VL": ("Qwen2VLImageProcessor", QWEN),
    "Idefics3": ("Idefics3ImageProcessor", WHOLE),
    "Idefics3, split": ("Idefics3ImageProcessor", {}),
}


@cache
def photograph(number: int) -> Image:
    """A JPEG that looks like noise at every scale, as photographs do: about 100 KB."""
    chance = np.random.default_rng(number)
    total = np.zeros((480, 640, 3), np.float32)
    for side in (6, 24, 96, 480):
        noise = chance.integers(0, 256, (side, side * 4 // 3, 3), dtype=np.uint8)
        grown = PILImage.fromarray(noise).resize((640, 480), PILImage.Resampling.BICUBIC)
        total += np.asarray(grown, np.float32) * (0.1 if side == 480 else 0.3)
    file = io.BytesIO()
    PILImage.fromarray(total.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return Image(data=file.getvalue())


@cache
def processor(kind: str) -> Any:
    torch.set_num_threads(1)
    return getattr(transformers, kind)()


def prepare(kind: str, options: Mapping[str, Any], number: int) -> int:
    """One image from its bytes to what the model's encoder takes; returns how many bytes that is."""
    shown = images.load(photograph(number))
    if kind == "decode":
        return shown.width * shown.height * 3
    if kind == "emu2":
        return int(pixels(shown, 448).nbytes)
    found = processor(kind)(images=[[shown]], return_tensors="pt", **options)
    return int(found["pixel_values"].nbytes)


def without(options: Mapping[str, Any], *steps: str) -> Mapping[str, Any]:
    """The options with some of the processor's steps left out."""
    return {**options, **dict.fromkeys(steps, False)}


def several(work: Callable[[int], int], count: int) -> None:
    for number in range(count):
        work(number)


def busy(workers: Executor, work: Callable[[int], int], count: int) -> tuple[float, float]:
    """Cores kept busy by the work, and wall seconds; the CPU of processes comes with their answers."""
    started = time.perf_counter()
    spent = sum(workers.map(partial(timed, work), range(count), chunksize=4))
    wall = time.perf_counter() - started
    return spent / wall, wall


def timed(work: Callable[[int], int], number: int) -> float:
    started = time.thread_time()
    work(number)
    return time.thread_time() - started


def steps(count: int) -> dict[str, float]:
    """Prints milliseconds of CPU an image by step; returns the whole by model and backend."""
    whole: dict[str, float] = {}
    ways: dict[str, Callable[[], object]] = {
        "decode": partial(several, partial(prepare, "decode", {}), count)
    }
    ways["Emu2"] = partial(several, partial(prepare, "emu2", {}), count)
    for name, (kind, options) in MODELS.items():
        for backend, ending in BACKENDS.items():
            if backend == "torchvision" and find_spec("torchvision") is None:
                continue
            for step, left in (("", ()), ("resized", ("do_rescale", "do_normalize"))):
                work = partial(prepare, kind + ending, without(options, *left))
                ways[f"{name}|{backend}|{step}"] = partial(several, work, count)
    found = in_turn(ways, repeats=3)
    decode, emu2 = (1000 * found.median(name) / count for name in ("decode", "Emu2"))
    rows: list[tuple[object, ...]] = [("Emu2", "pillow", decode, "", "", emu2)]
    whole["Emu2|pillow"] = emu2
    for name in MODELS:
        for backend in BACKENDS:
            if f"{name}|{backend}|" not in ways:
                continue
            resized, together = (
                1000 * found.median(f"{name}|{backend}|{step}") / count for step in ("resized", "")
            )
            rows.append((name, backend, decode, resized - decode, together - resized, together))
            whole[f"{name}|{backend}"] = together
        if f"{name}|torchvision|" in ways:
            quicker = found.ratio(f"{name}|pillow|", f"{name}|torchvision|")
            headline("torchvision instead of Pillow", name, quicker)
    table(
        ("ms of CPU an image", "backend", "decode", "resize, layout", "normalise", "together"), rows
    )
    return whole


def main() -> None:
    parser = arguments(__doc__)
    own = parser.parse_args()
    torch.set_num_threads(1)
    count = 4 if own.quick else 24
    several(lambda number: len(photograph(number).data or b""), count)
    whole = steps(count)
    print()
    table(
        ("images a second", "1 core", "2 (extrapolated)", "16 (extrapolated)", f"{WANTED} reached"),
        [
            (name.replace("|", ", "), 1000 / ms, 2000 / ms, 16000 / ms,
             "with 1" if ms * WANTED < 1000 else "with 2" if ms * WANTED < 2000 else "with 16")
            for name, ms in whole.items()
        ],
    )  # fmt: skip
    print()
    rows = []
    spawn = multiprocessing.get_context("spawn")
    with ThreadPoolExecutor(2) as threads, ProcessPoolExecutor(2, mp_context=spawn) as processes:
        for name, (kind, options) in list(MODELS.items())[: 1 if own.quick else None]:
            for backend, ending in BACKENDS.items():
                if backend == "torchvision" and find_spec("torchvision") is None:
                    continue
                work = partial(prepare, kind + ending, options)
                for pool in (threads, processes):
                    busy(pool, work, count)
                turns = [(busy(threads, work, count), busy(processes, work, count))
                         for _ in range(1 if own.quick else 5)]  # fmt: skip
                kept = [median(turn[side][0] for turn in turns) for side in (0, 1)]
                speed = median(turn[1][1] / turn[0][1] for turn in turns)
                rows.append((name, backend, *kept, speed))
    table(
        (
            "two workers",
            "backend",
            "cores busy: threads",
            "processes",
            "processes' time / threads'",
        ),
        rows,
    )
    print(f"{cpu():.0f} s of CPU in all")


if __name__ == "__main__":
    main()
