"""What one GPU makes of the models, in eight minutes: speed, memory against `plan`, equality with the CPU.

Emu2 is built at full size with random bfloat16 weights (`--layers 40` where 80 GB must do); emu2-nano and a
small Idefics3 show whether a GPU gives the answers of a CPU. The figures of each step are written to
FOLDER/gpu.json as soon as they are known; a step that fails is recorded there and stops no other. `--tiny`
runs the same steps at toy sizes on any machine.

    python benchmarks/gpu.py [--layers 60] [--minutes 8] [--file FOLDER] [--only vision decode …] [--tiny]
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from torch import Tensor

from emu2eval.adapters.emu2 import sdxl
from emu2eval.adapters.emu2.budget import measure
from emu2eval.adapters.emu2.config import DecoderConfig, Emu2Config, VisionConfig
from emu2eval.adapters.emu2.inference import Emu2Inference
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.local import attention
from emu2eval.adapters.local import kernels as torch_kernels
from emu2eval.adapters.local.encoded import Encoded
from emu2eval.adapters.local.search import Search

GIB = 2**30
ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Bench:
    """Where things run, how large they are, and what was found."""

    folder: Path
    tiny: bool
    layers: int
    until: float
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    @property
    def config(self) -> Emu2Config:
        if not self.tiny:
            return Emu2Config(decoder=DecoderConfig(num_hidden_layers=self.layers))
        return Emu2Config(
            VisionConfig(image_size=64, patch_size=8, width=64, layers=2, head_width=32),
            DecoderConfig(64, 128, 4, 2, 500),
        )

    @cached_property
    def model(self) -> Emu2:
        """Random weights, norms of one: nothing is read, and nothing overflows."""
        with torch.device("meta"):
            model = Emu2(self.config).to(self.dtype)
        model = model.to_empty(device=self.device).eval().requires_grad_(False)
        random = torch.Generator(self.device).manual_seed(0)
        for name, weights in model.named_parameters():
            if "norm" in name:
                weights.fill_(float(name.endswith("weight")))
            else:
                weights.normal_(0, 0.02, generator=random)
        return model

    def inference(self, reuse: bool = True) -> Emu2Inference:
        return Emu2Inference(self.model, words(2), _no_painter, reuse)

    def write(self, step: str, figures: object) -> None:
        self.found[step] = figures
        (self.folder / "gpu.json").write_text(json.dumps(self.found, indent=1))
        print(f"{step}: {json.dumps(figures)}", flush=True)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], repeats: int = 1) -> float:
        """Of one call, with the device's work; one call before it is not counted."""
        work()
        self.wait()
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        self.wait()
        return (time.perf_counter() - started) / repeats

    @contextmanager
    def peak(self) -> Iterator[dict[str, float]]:
        """The most memory that torch held within, GiB; 0 on a CPU."""
        found = {"peak_gib": 0.0}
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        yield found
        if self.device.type == "cuda":
            found["peak_gib"] = torch.cuda.max_memory_allocated() / GIB


def words(length: int, seed: int = 0) -> Encoded:
    """A prompt of words alone; prompts of different seeds begin differently."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 400, (length,), generator=random).tolist()
    return Encoded(tuple(ids), (False,) * length)


def unlike(count: int, length: int) -> list[Encoded]:
    """Prompts of about that length, no two of one length beside each other."""
    return [words(length - i % 7, seed=i) for i in range(count)]


def _no_painter() -> NoReturn:
    raise RuntimeError("nothing is painted here")


def machine(bench: Bench) -> object:
    import transformers

    cuda = bench.device.type == "cuda"
    size = 256 if bench.tiny else 8192
    a = torch.randn(size, size, device=bench.device, dtype=bench.dtype)
    return {
        "card": torch.cuda.get_device_name() if cuda else "CPU",
        "memory_gib": torch.cuda.get_device_properties(0).total_memory / GIB if cuda else 0,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tflops": 2 * size**3 / bench.seconds(lambda: a @ a, 5) / 1e12,
    }


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


def vision(bench: Bench) -> object:
    size = bench.config.vision.image_size
    found = {}
    for count in (1, 2, 4, 8):
        images = torch.randn(count, 3, size, size)
        with bench.peak() as peak:
            took = bench.seconds(lambda: bench.model.encode_images(images).cpu(), 3)
        found[count] = {"ms_an_image": took / count * 1e3, **peak}
    return found


def decode(bench: Bench) -> object:
    """Prefill and step by batch and length, five beams, and the peak beside what `plan` sets aside."""
    found: dict[str, object] = {}
    new = 9
    batches, lengths = ((1, 4), (32,)) if bench.tiny else ((1, 4, 8, 16, 32), (128, 501, 893))
    for batch in batches:
        for length in lengths:
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


def tokens(bench: Bench) -> object:
    """What a token costs the host: operations launched, copies and waits, and the device's share of time."""
    from torch.profiler import ProfilerActivity, profile

    found = {}
    inference, new = bench.inference(), 3
    cuda = bench.device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    for batch in (1, 4):
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
    exact = Emu2Inference(small, words(2), _no_painter, False)
    return {
        "largest_logit": float(alone.max()),
        "deviation": float(alone.std()),
        "distinct_of_top_100": len(set(top.tolist())),
        "distinct_if_rounded": len(set(top.to(bench.dtype).tolist())),
        **moved(inference),
        "float32": {"deviation": float(first(exact, 1).std()), **moved(exact)},
    }


def kernels(bench: Bench) -> object:
    """Attention over a shared beginning: each fused kernel, float32 scores, and joined copies."""
    found: dict[str, object] = {}
    half = bench.dtype
    shapes = (
        (half, 5, 1, 500, 8, 128),
        (half, 160, 1, 800, 8, 128),
        (half, 4, 600, 500, 600, 128),
        (torch.float32, 4, 100, 300, 100, 128),
    )
    for dtype, rows, new, before, own, width in shapes:
        if bench.tiny:
            before, new, own, width = before // 10, -(-new // 10), -(-own // 10), 32
        heads = 4 if bench.tiny else 52
        random = torch.Generator(bench.device).manual_seed(0)

        def made(count: int, length: int) -> Tensor:
            shape = (count, heads, length, width)
            return torch.randn(shape, generator=random, device=bench.device).to(dtype)

        query = made(rows, new)
        keys, values = (made(1, before), made(rows, own)), (made(1, before), made(rows, own))
        module = torch.nn.Module().eval()

        def run(part: Callable[..., Any], joins: bool, kind: torch.dtype) -> Callable[[], Tensor]:
            wide: Any = tuple(tuple(p.to(kind) for p in parts) for parts in (keys, values))
            asked, ways, fused = query.to(kind), cast(Any, attention), cast(Any, torch_kernels)

            def call() -> Tensor:
                kept = fused.part, ways._joins
                fused.part, ways._joins = part, lambda _: joins
                try:
                    return attention.attend(module, asked, wide[0], wide[1], None)[0]
                finally:
                    fused.part, ways._joins = kept

            return call

        exact = run(torch_kernels.scored, False, torch.float32)().double()
        ways = {
            "scores": run(torch_kernels.scored, False, dtype),
            "joined": run(torch_kernels.part, True, dtype),
        }
        for kernel in torch_kernels.right(query):
            if kernel.takes(query, query, None):
                ways[kernel.name] = run(partial(_by, kernel), False, dtype)
        found[f"{rows} rows, {new} new after {before}, {dtype}"] = {
            name: {
                "ms": bench.seconds(way, 10) * 1e3,
                "error": float((way().double() - exact).abs().max()),
            }
            for name, way in ways.items()
        }
    return found


def _by(kernel: torch_kernels.Kernel, *given: Any, causal: bool = False) -> Any:
    run: Any = kernel.run
    return run(*given, causal)


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
    """The visual embeddings of an image, on the cache: seconds an image by how many at once."""
    found = {}
    for count in (1, 4, 8):
        prompts = [words(40 if bench.tiny else 120, seed=i) for i in range(count)]
        inference = bench.inference()
        found[count] = bench.seconds(lambda: inference.regress(prompts)) / count
    return {"seconds_an_image": found}


def painting(bench: Bench) -> object:
    """A step of the UNet (both halves of the guidance) and the VAE, at SDXL's size."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel

    from emu2eval.adapters.emu2.painter import Painter

    bench.__dict__.pop("model", None)  # beside the weights, an 80 GB card has no room
    gc.collect()
    unet, vae = dict(sdxl.UNET), dict(sdxl.VAE)
    if bench.tiny:
        tiny: Mapping[str, Any] = {
            "block_out_channels": [32, 64, 64],
            "transformer_layers_per_block": [1, 1, 1],
            "attention_head_dim": [2, 2, 2],
            "sample_size": 16,
        }
        unet |= tiny
        vae |= {"block_out_channels": [32, 32, 32, 32], "sample_size": 128}
    kinds: Any = (UNet2DConditionModel, AutoencoderKL)
    with torch.device(bench.device):
        made = kinds[0].from_config(unet).to(bench.dtype)
        decoder = kinds[1].from_config(vae).to(bench.dtype)
    scheduler: Any = EulerDiscreteScheduler
    painter = Painter(made, decoder, scheduler.from_config(dict(sdxl.SCHEDULER)))
    found: dict[str, object] = {}
    for layout in ("contiguous", "channels_last"):
        if layout == "channels_last":
            made.to(memory_format=torch.channels_last)
        for count in (1, 2, 4):
            cond = torch.randn(count, 64, 1792, device=bench.device)

            def paint(steps: int) -> Tensor:
                seeds = range(count)
                return painter.latents(cond, cond[:1] * 0, seeds, steps=steps)

            with bench.peak() as peak:
                took = (bench.seconds(lambda: paint(4)) - bench.seconds(lambda: paint(1))) / 3
            found[f"{layout}, {count} at once"] = {"s_a_step_and_image": took / count, **peak}
    latents = paint(1)[:1]
    with bench.peak() as peak:
        found["vae"] = {"s_an_image": bench.seconds(lambda: painter.decode(latents)), **peak}
    return found


def loading(bench: Bench) -> object:
    """Reading a checkpoint in safetensors, from the page cache: GiB/s with the checks and the copies."""
    from safetensors.torch import save_file

    from emu2eval.adapters.emu2.checkpoint import load_model, open_checkpoint
    from emu2eval.adapters.local.placement import Placement

    bench.__dict__.pop("model", None)
    whole = bench.config
    small = (2, 2) if bench.tiny else (4, 8)
    config = Emu2Config(
        VisionConfig(**{**_fields(whole.vision), "layers": small[0]}),
        DecoderConfig(**{**_fields(whole.decoder), "num_hidden_layers": small[1]}),
    )
    place = 0 if bench.device.type == "cuda" else "cpu"
    with tempfile.TemporaryDirectory() as name:
        with torch.device("meta"):
            model = Emu2(config).to(torch.bfloat16)
        state = {k: torch.zeros(v.shape, dtype=v.dtype) for k, v in model.state_dict().items()}
        size = sum(tensor.nbytes for tensor in state.values())
        save_file(state, Path(name) / "model.safetensors")
        (Path(name) / "config.json").write_text(json.dumps(config.to_json()))
        del state
        checkpoint = open_checkpoint(Path(name))

        def load() -> object:
            placement = Placement({"": place}, place, place, ())
            return load_model(checkpoint, dtype=bench.dtype, placement=placement)

        took = bench.seconds(load)
    return {"gib": size / GIB, "gib_a_second": size / GIB / took}


def _fields(sizes: Any) -> dict[str, Any]:
    return {name: getattr(sizes, name) for name in sizes.__dataclass_fields__}


def nano(bench: Bench) -> object:
    """emu2-nano in float32 on the device and on the CPU, over easy-VQA: answers, scores, drawings."""
    from emu2eval import evaluate
    from emu2eval.runs.answers import from_line

    limit = 8 if bench.tiny else 300
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        for task, shots, few in (
            ("easy-vqa", 4, limit),
            ("easy-vqa-binding", 8, limit),
            ("easy-vqa-draw", 0, max(1, limit // 10)),
        ):
            told, took = [], []
            for device in ("cpu", str(bench.device)):
                started = time.perf_counter()
                (result,) = evaluate(
                    task,
                    "emu2-nano",
                    shots=shots,
                    limit=few,
                    out=Path(name) / f"{device.replace(':', '')}-{task}",
                    changes=[
                        f"model.settings.device_map={device}",
                        "model.settings.dtype=float32",
                        "model.settings.threads=8",
                    ],
                )
                took.append(time.perf_counter() - started)
                lines = (result.folder / "responses.jsonl").read_bytes().splitlines(keepends=True)
                kept = [from_line(line) for line in lines]
                told.append((result, {one.id: (one.text, one.images) for one in kept}))
            (result, here), (other, there) = told
            found[task] = {
                "n": len(here),
                "same": sum(here[name] == there[name] for name in here),
                "values": [result.rows[0].value, other.rows[0].value],
                "seconds": took,
            }
    return found


def drawn(bench: Bench) -> object:
    """Answers that emu2-nano draws at a temperature: on the device, by `auto` batches, beside the CPU's."""
    from emu2eval import evaluate
    from emu2eval.runs.answers import from_line

    found: dict[str, object] = {}
    told: dict[str, dict[tuple[str, int], str | None]] = {}
    with tempfile.TemporaryDirectory() as name:
        for place, batch in (("cpu", 8), (str(bench.device), "auto"), (str(bench.device), 1)):
            key = f"{place}, batch {batch}"
            started = time.perf_counter()
            (result,) = evaluate(
                "easy-vqa-binding",
                "emu2-nano",
                shots=2,
                limit=8 if bench.tiny else 300,
                trials=2,
                out=Path(name) / str(len(told)),
                device=place,
                batch=batch,
                changes=["model.settings.dtype=float32", "model.settings.temperature=1.5"],
            )
            lines = (result.folder / "responses.jsonl").read_bytes().splitlines(keepends=True)
            told[key] = {(one.id, one.trial): one.text for one in map(from_line, lines)}
            first = next(iter(told.values()))
            found[key] = {
                "n": len(first),
                "same_as_cpu": sum(told[key][each] == first[each] for each in first),
                "differ_between_trials": sum(
                    first[each] != first[each[0], 1] for each in first if each[1] == 0
                ),
                "largest_batch": result.tally.batch,
                "value": result.rows[0].value,
                "seconds": time.perf_counter() - started,
            }
    return found


def transformers_model(bench: Bench) -> object:
    """A small Idefics3: answers and log-probabilities on the device beside the CPU's, reuse on and off."""
    import sys

    sys.path.insert(0, str(ROOT / "benchmarks"))
    import huggingface

    huggingface.hf.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        huggingface.build(Path(name) / "model")
        return _beside_the_cpu(bench, Path(name) / "model", "chat", 8)


def families(bench: Bench) -> object:
    """Every family that runs, by tiny models with random weights: the device beside the CPU."""
    import sys

    import transformers

    sys.path.insert(0, str(ROOT))
    from emu2eval.adapters.huggingface import families as known
    from tests.adapters.huggingface.families import FAMILIES, save

    hf: Any = transformers
    hf.logging.disable_progress_bar()
    found: dict[str, object] = {}
    for family, tiny in sorted(FAMILIES.items()):
        line = known.find(tiny.model_type or family)
        if line is None or line.verdict == "refused" or (bench.tiny and len(found) == 2):
            continue
        if time.monotonic() > bench.until:
            found[family] = "no time was left"
            continue
        try:
            with tempfile.TemporaryDirectory() as name:
                folder = save(family, Path(name) / "model")
                found[family] = _beside_the_cpu(bench, folder, tiny.layout, 4)
        except Exception as error:  # one family must not cost the others
            found[family] = f"{type(error).__name__}: {error}"[:600]
    return found


def _beside_the_cpu(bench: Bench, folder: Path, layout: str, count: int) -> dict[str, object]:
    """Queries after four demonstrations: texts that are the CPU's, and how far log-probabilities are."""
    from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
    from emu2eval.adapters.huggingface.settings import HuggingFaceSettings
    from emu2eval.types import ChoiceOutput, Prompt, Request, TextOutput, Turn

    images = [_image(i) for i in range(4 + count)]
    turns = tuple(
        Turn((image, f"what colour is square {i}?"), (("red", "blue")[i % 2],))
        for i, image in enumerate(images[:4])
    )
    prompts = [
        Prompt((image, f"what colour is square {i}?" + " please" * (i % 3)), turns)
        for i, image in enumerate(images[4:])
    ]
    texts = [Request(f"text {i}", p, TextOutput(12)) for i, p in enumerate(prompts)]
    ranked = [
        Request(f"choice {i}", p, ChoiceOutput(("red", "green", "blue")))
        for i, p in enumerate(prompts)
    ]
    given = {}
    for place, reuse in (("cpu", True), (str(bench.device), True), (str(bench.device), False)):
        settings = HuggingFaceSettings(
            checkpoint=str(folder),
            layout=cast(Any, layout),
            dtype="float32",
            batch=count,
            device_map=place,
            reuse=reuse,
        )
        adapter = HuggingFaceAdapter(settings)
        adapter.load()
        answers, sums = adapter.answer(texts), adapter.answer(ranked)
        given[f"{place}, reuse {reuse}"] = (
            [response.text if response.error is None else response.error for response in answers],
            torch.tensor([response.log_probs or (torch.nan,) * 3 for response in sums]),
        )
        adapter.close()
    first, *rest = given
    return {
        other: {
            "same_text": sum(a == b for a, b in zip(given[first][0], given[other][0], strict=True)),
            "of": len(prompts),
            "log_probs_apart": float((given[first][1] - given[other][1]).abs().max()),
        }
        for other in rest
    }


def precision(bench: Bench) -> object:
    """A small vision tower in float32: how far from the CPU, with convolutions in TF32 and without."""
    from emu2eval.adapters.emu2.vision import EvaVisionTower

    torch.manual_seed(0)
    config = VisionConfig(image_size=224, width=448, layers=4, head_width=112)
    tower, images = EvaVisionTower(config).eval(), torch.randn(8, 3, 224, 224)
    here = tower(images)
    tower.to(bench.device)
    found, before = {}, torch.backends.cudnn.allow_tf32
    for short in (True, False):
        torch.backends.cudnn.allow_tf32 = short
        apart = (tower(images.to(bench.device)).cpu() - here).abs().max()
        found["tf32" if short else "float32"] = float(apart / here.abs().max())
    torch.backends.cudnn.allow_tf32 = before
    return found


def _image(number: int) -> Any:
    from PIL import Image as PILImage

    from emu2eval.media.images import from_pil

    return from_pil(PILImage.new("RGB", (64, 64), (number * 40 % 256, number * 91 % 256, 90)))


STEPS: Mapping[str, Callable[[Bench], object]] = {
    "machine": machine,
    "nano": nano,
    "drawn": drawn,
    "transformers": transformers_model,
    "precision": precision,
    "weights": weights,
    "batches": batches,
    "kernels": kernels,
    "vision": vision,
    "tokens": tokens,
    "decode": decode,
    "demonstrations": demonstrations,
    "regression": regression,
    "painting": painting,
    "loading": loading,
    "families": families,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=60, help="of the decoder; 40 fit 80 GB")
    parser.add_argument("--minutes", type=float, default=8, help="no step begins later")
    parser.add_argument("--file", type=Path, default=Path(), help="the folder of gpu.json")
    parser.add_argument("--only", nargs="*", choices=list(STEPS), help="these steps alone")
    parser.add_argument("--tiny", action="store_true", help="toy sizes")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    bench = Bench(options.file, options.tiny, options.layers, until)
    for name, step in STEPS.items():
        if options.only and name not in options.only:
            continue
        if time.monotonic() > bench.until:
            bench.write(name, "no time was left")
            continue
        started = time.monotonic()
        try:
            with torch.inference_mode():
                figures = step(bench)
        except Exception as error:  # a step that fails must not cost the others
            traceback.print_exc()
            figures = {"failed": f"{type(error).__name__}: {error}"}
        bench.write(name, figures)
        print(f"  {time.monotonic() - started:.1f} s", flush=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
