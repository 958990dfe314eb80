"""What one GPU makes of the models, in eight minutes: speed, memory against `plan`, equality with the CPU.

Emu2 is built at full size with random bfloat16 weights (40 layers of its decoder where a card has less than
100 GiB); emu2-nano and a small Idefics3 show whether a GPU gives the answers of a CPU. The figures of each
step are written to FOLDER/gpu.json as soon as they are known. A step that fails is recorded there and stops
no other; one that takes longer than its share leaves out what it can. `--tiny` runs the same steps at toy
sizes on any machine.

    python benchmarks/gpu.py [--layers 60] [--minutes 8] [--file FOLDER] [--only vision decode …] [--tiny]

Nothing comes from the net. To a bare machine carry this checkout (models, tasks, results and tests among
it), and wheels of what it lacks of the extras `emu2`, `hf` and `vision`, and of `easy-vqa`.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from gpu_steps import answers, attention, decoder, images, memory, run
from gpu_steps.bench import GIB, Bench


def machine(bench: Bench) -> object:
    import transformers

    cuda = bench.cuda
    size = 256 if bench.tiny else 8192
    a = torch.randn(size, size, device=bench.device, dtype=bench.dtype)
    return {
        "card": torch.cuda.get_device_name() if cuda else "CPU",
        "memory_gib": torch.cuda.get_device_properties(0).total_memory / GIB if cuda else 0,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tflops": 2 * size**3 / bench.seconds(lambda: a @ a, 5) / 1e12,
    }


STEPS: Mapping[str, tuple[Callable[[Bench], object], float]] = {
    "machine": (machine, 10),
    "kernels": (attention.kernels, 20),
    "scores": (attention.scores, 10),
    "precision": (attention.precision, 5),
    "reference": (answers.reference, 40),
    "nano": (answers.nano, 40),
    "drawn": (answers.drawn, 30),
    "in-memory": (run.in_memory, 20),
    "transformers": (answers.transformers_model, 15),
    "weights": (decoder.weights, 20),
    "batches": (decoder.batches, 15),
    "vision": (images.vision, 15),
    "encoders": (images.encoders, 15),
    "tokens": (decoder.tokens, 40),
    "first-token": (decoder.first_token, 10),
    "graphs": (decoder.graphs, 20),
    "decode": (decoder.decode, 70),
    "fit": (memory.fit, 30),
    "engine": (run.engine, 60),
    "demonstrations": (decoder.demonstrations, 30),
    "regression": (decoder.regression, 30),
    "painting": (images.painting, 40),
    "groups": (images.groups, 30),
    "loading": (memory.loading, 20),
    "planned": (memory.planned, 30),
    "families": (answers.families, 60),
}
"""By name, with the seconds that each may take. The first need little memory, the last the whole card."""


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, help="of the decoder; by default as suits the card")
    parser.add_argument("--minutes", type=float, default=8, help="no step begins later")
    parser.add_argument("--file", type=Path, default=Path(), help="the folder of gpu.json")
    parser.add_argument("--only", nargs="*", choices=list(STEPS), help="these steps alone")
    parser.add_argument("--tiny", action="store_true", help="toy sizes")
    options = parser.parse_args(given)
    until = time.monotonic() + 60 * options.minutes
    options.file.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.file, options.tiny, options.layers, until)
    for name, (step, seconds) in STEPS.items():
        if options.only and name not in options.only:
            continue
        if time.monotonic() > bench.until:
            bench.write(name, "no time was left")
            continue
        started = time.monotonic()
        bench.begin(seconds)
        try:
            with torch.inference_mode():
                figures = step(bench)
        except Exception as error:  # a step that fails must not cost the others
            traceback.print_exc()
            figures = {"failed": f"{type(error).__name__}: {error}"}
        bench.write(name, figures)
        print(f"  {time.monotonic() - started:.1f} s", flush=True)
        gc.collect()
        if bench.cuda:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    # Features of random weights are nobody's to keep, and those of other runs would hide what is timed.
    with tempfile.TemporaryDirectory() as cache:
        os.environ["EMU2EVAL_CACHE"] = cache
        main()
