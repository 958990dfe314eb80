"""What reuse saves: time of a query after fixed demonstrations, and of regressing an image.

A small Emu2 with random weights in which computing dominates; no file is read, results are ratios.

    python benchmarks/emu2_reuse.py [--queries 6]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import NoReturn

import torch
from PIL import Image as PILImage
from torch import Tensor

from emu2eval.adapters.emu2.config import DecoderConfig, Emu2Config, VisionConfig
from emu2eval.adapters.emu2.inference import Emu2Inference
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.local.encoded import Encoded, Shown
from emu2eval.adapters.local.search import Search
from emu2eval.media.images import from_pil
from emu2eval.types import Image

BOI, EOI, IMAGE = 1001, 1002, 1003
TOKENS = 16
WORDS = 12
CONFIG = Emu2Config(
    VisionConfig(image_size=112, width=128, layers=4, head_width=32, mlp_ratio=4.0),
    DecoderConfig(
        hidden_size=256,
        intermediate_size=768,
        num_attention_heads=8,
        num_hidden_layers=6,
        vocab_size=1272,
    ),
    n_query=TOKENS,
    v_query=TOKENS,
)


def image(number: int) -> Image:
    image = PILImage.new("RGB", (112, 112), (number % 256, 90, 160))
    image.putpixel((0, 0), (number // 256, number % 256, 1))
    return from_pil(image)


def prompt(shots: int, query: int) -> Encoded:
    """Fixed demonstrations, then an image and words of its own."""
    ids, shown = [1], []
    for i in [*range(shots), 1000 + query]:
        words = [4 + (7 * i + j) % 900 for j in range(WORDS)]
        ids += [BOI, *[IMAGE] * TOKENS, EOI, *words]
        shown.append(Shown(image(i), TOKENS))
    return Encoded(tuple(ids), tuple(i == IMAGE for i in ids), tuple(shown))


def seconds(work: Callable[[], object]) -> float:
    # Of this process's one thread, so that other work on the machine does not count.
    start = time.process_time()
    work()
    return time.process_time() - start


def time_a_query(model: Emu2, shots: int, reuse: bool, queries: int) -> float:
    """Median seconds of a query in the middle of a run: five beams, ten tokens, one at a time."""
    inference = Emu2Inference(model, prompt(0, 0), _no_painter, reuse)
    search = Search(max_new_tokens=10, min_new_tokens=10, beams=5, length_penalty=-1.0)

    def ask(query: int) -> None:
        inference.texts([prompt(shots, query)], search)

    # The first two queries find out what is shared.
    times = [seconds(lambda q=query: ask(q)) for query in range(queries + 2)]  # type: ignore[misc]
    return median(times[2:])


def regress_anew(inference: Emu2Inference, asked: Encoded, count: int) -> Tensor:
    """As the authors' released code does it: the whole sequence again for each embedding."""
    model, encoder = inference.model, inference.reader.encoder
    encoder.hold([asked])
    features = torch.cat([encoder.held(shown).pooled for shown in asked.shown])
    embeds = model.embed(torch.tensor(asked.ids), torch.tensor(asked.slots), features)[None]
    found = []
    for _ in range(count):
        found.append(model.down(model.read(embeds)[:, -1]))
        embeds = torch.cat([embeds, model.up(found[-1])[:, None]], 1)
    return torch.stack(found, 1)


def _no_painter() -> NoReturn:
    raise RuntimeError("nothing is painted here")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=6, help="queries timed at each setting")
    queries = parser.parse_args().queries
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Emu2(CONFIG).eval().requires_grad_(False)

    print("time of a query, relative to 0 shots with reuse")
    print(f"{'shots':>6} {'positions':>10} {'without':>9} {'with':>9}")
    unit = time_a_query(model, 0, True, queries)
    for shots in (0, 4, 8, 16):
        without, reused = (time_a_query(model, shots, r, queries) for r in (False, True))
        length = len(prompt(shots, 0))
        print(f"{shots:>6} {length:>10} {without / unit:>8.2f}x {reused / unit:>8.2f}x")
    print(f"one unit is {unit * 1000:.0f} ms here")

    print(f"\nregressing {TOKENS} visual embeddings after five images and their words")
    inference = Emu2Inference(model, prompt(0, 0), _no_painter)
    asked = prompt(4, 0)
    cached = median(seconds(lambda: inference.regress([asked])) for _ in range(3))
    anew = median(seconds(lambda: regress_anew(inference, asked, TOKENS)) for _ in range(3))
    print(f"without the cache {anew / cached:.1f}x the time of with it ({cached * 1000:.0f} ms)")


if __name__ == "__main__":
    main()
