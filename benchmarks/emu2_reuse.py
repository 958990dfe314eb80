"""What reuse saves in Emu2, and how its reading stands beside that of transformers.

The time of a query after fixed demonstrations, of regressing an image, of reading four prompts of 1,000
positions against transformers' LLaMA on the same weights, of a token, and of drawing several images at once.
A small Emu2 with random weights in which computing dominates, and emu2-nano for the drawings; ratios of CPU
time by turns.

    python benchmarks/emu2_reuse.py [--queries 6] [--quick]
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

import torch
from measuring import arguments, headline, in_turn, seconds, table
from PIL import Image as PILImage
from torch import Tensor
from transformers import DynamicCache

from emu2eval.adapters.emu2.checkpoint import load_painter, open_checkpoint
from emu2eval.adapters.emu2.config import DecoderConfig, Emu2Config, VisionConfig
from emu2eval.adapters.emu2.inference import Emu2Inference
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.local.attention import NAME
from emu2eval.adapters.local.encoded import Encoded, Shown
from emu2eval.adapters.local.private import set_attention
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


def words(length: int, row: int, shared: int = 0) -> Encoded:
    """A prompt of words alone, the first `shared` of which are everybody's."""
    own = [4 + (7 * row + 3 * j * j + j) % 900 for j in range(length - 1)]
    ids = (1, *(4 + j % 50 for j in range(shared)), *own[shared:])
    return Encoded(ids, (False,) * length)


def read_here(model: Emu2, prompts: Sequence[Encoded]) -> Tensor:
    """The logits after each prompt, as for an answer: (rows, words)."""
    inference = Emu2Inference(model, prompt(0, 0), _no_painter)
    inference.reader.encoder.hold(prompts)
    known = inference.prefix
    shared = known.shared(prompts) if known is not None else 0
    return inference._read(inference.reader.rows(prompts, shared), prompts, shared)[1]


def read_there(model: Emu2, prompts: Sequence[Encoded]) -> Tensor:
    """The same by transformers' LLaMA with its own attention: one pass, padded before shorter prompts."""
    llama: Any = model.decoder.lm
    set_attention(llama.config, "sdpa")
    most = max(map(len, prompts))
    ids = torch.tensor([[0] * (most - len(each)) + [*each.ids] for each in prompts])
    mask = torch.tensor([[0] * (most - len(each)) + [1] * len(each) for each in prompts])
    try:
        given: dict[str, Any] = {"input_ids": ids, "past_key_values": DynamicCache()}
        if not bool(mask.all()):
            given |= {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}
        logits: Tensor = llama(**given, logits_to_keep=1).logits[:, -1]
        return logits
    finally:
        set_attention(llama.config, NAME)


def reading(model: Emu2, length: int, repeats: int) -> None:
    print(f"\nreading four prompts of {length:,} positions, against transformers' LLaMA")
    cases = {
        "of one length": [words(length, row) for row in range(4)],
        "of unlike lengths": [words(length - 20 * row, row) for row in range(4)],
        "behind 60 that all share": [words(length, row, 60) for row in range(4)],
        "behind half that all share": [words(length, row, length // 2) for row in range(4)],
    }
    for case, prompts in cases.items():
        far = (read_here(model, prompts) - read_there(model, prompts)).abs().max().item()
        found = in_turn(
            {
                "here": partial(read_here, model, prompts),
                "there": partial(read_there, model, prompts),
            },
            repeats,
            warm=0,
        )
        headline("Emu2 reads", case, found.ratio("here", "there"), wanted=1.1, most=True)
        print(f"   logits at most {far:.0e} apart")


def regressing(model: Emu2, sizes: Sequence[int], repeats: int) -> None:
    print(
        f"\nregressing {TOKENS} visual embeddings, the whole sequence again for each against the cache"
    )
    inference = Emu2Inference(model, prompt(0, 0), _no_painter)
    for shots in sizes:
        asked = prompt(shots, 0)
        found = in_turn(
            {
                "cached": partial(inference.regress, [asked]),
                "anew": partial(regress_anew, inference, asked, TOKENS),
            },
            repeats,
        )
        headline("Emu2 regresses", f"{len(asked):,} positions", found.ratio("anew", "cached"))


def decoding(model: Emu2, repeats: int) -> None:
    """Five beams of four prompts: hooks on all modules, as accelerate places a model; steps all alike."""
    from accelerate.hooks import attach_align_device_hook_on_blocks

    print(
        "\na token of four prompts and five beams: hooks on all modules, and steps of fixed memory"
    )
    hooked = deepcopy(model)
    places = {"": "cpu", **{f"decoder.lm.model.layers.{i}": "cpu" for i in range(6)}}
    attach_align_device_hook_on_blocks(
        hooked, places, dict.fromkeys(places, False), skip_keys="past_key_values"
    )
    prompts = [words(20 + i, i) for i in range(4)]
    search = Search(24, 24, 5)
    ways = {
        "plain": Emu2Inference(model, prompt(0, 0), _no_painter, False),
        "hooked": Emu2Inference(hooked, prompt(0, 0), _no_painter, False),
        "alike": Emu2Inference(model, prompt(0, 0), _no_painter, False, graphs=True),
    }
    found = in_turn(
        {name: partial(each.texts, prompts, search) for name, each in ways.items()}, repeats
    )
    headline("Emu2 without hooks", "times as long with them", found.ratio("hooked", "plain"))
    headline("Emu2's steps of fixed memory", "times those before", found.ratio("alike", "plain"))


def drawing(steps: int, repeats: int) -> None:
    checkpoint = open_checkpoint(Path(__file__).parents[1] / "models" / "emu2-nano", None)
    painter = load_painter(checkpoint, dtype=torch.float32, device=None, safety=False)
    places, count = checkpoint.config.n_query, 8
    cond = torch.randn(count, places, painter.unet.config.cross_attention_dim)
    step = painter.together(None, None, places, True)
    kept: dict[int, list[bytes]] = {}

    def by(step: int) -> None:
        drawn = []
        for at in range(0, count, step):
            seeds = [*range(count)][at : at + step]
            drawn += painter.paint(cond[at : at + step], cond[:1] * 0, seeds, steps=steps)
        kept[step] = [image.tobytes() for image in drawn]

    found = in_turn({"alone": lambda: by(1), "together": lambda: by(step)}, repeats, warm=0)
    alike = sum(a == b for a, b in zip(kept[1], kept[step], strict=True))
    print(f"\ndrawing {count} images of emu2-nano, {step} at a time: {alike} the same byte by byte")
    headline("emu2-nano draws", f"{step} at a time", found.ratio("alone", "together"))


@torch.inference_mode()
def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--queries", type=int, default=6, help="queries timed at each setting")
    own = parser.parse_args()
    repeats = 1 if own.quick else 3
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Emu2(CONFIG).eval().requires_grad_(False)

    print("time of a query, relative to 0 shots with reuse")
    queries = 2 if own.quick else own.queries
    unit = time_a_query(model, 0, True, queries)
    lines = []
    for shots in (0, 4, 8, 16):
        without, reused = (time_a_query(model, shots, r, queries) / unit for r in (False, True))
        lines.append((str(shots), len(prompt(shots, 0)), without, reused))
    table(("shots", "positions", "without", "with"), lines)
    headline("Emu2 after 16 fixed examples", "times 0 examples", lines[-1][3])

    regressing(model, (4,) if own.quick else (4, 16, 33), repeats)
    reading(model, 300 if own.quick else 1000, repeats)
    decoding(model, repeats)
    drawing(5 if own.quick else 50, repeats)


if __name__ == "__main__":
    main()
