"""Small models on the device beside the CPU, and beside the reference runs: answers, scores, drawings."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, cast

import torch

from emu2eval.types import Prompt, Turn
from gpu_steps.bench import ROOT, Bench

REFERENCES = (
    "easy-vqa_4-shot",
    "easy-vqa-binding_8-shot",
    "easy-vqa-binding_16-shot",
    "easy-vqa-draw_0-shot",
)


def reference(bench: Bench) -> object:
    """emu2-nano in float32 on the device, against answers that are on record (`results/reference`)."""
    from emu2eval.doctor.reference import repeat

    limit = 4 if bench.tiny else 300
    found: dict[str, object] = {}
    for kind in REFERENCES[1::2] if bench.tiny else REFERENCES:
        folder = min((ROOT / "results" / "reference").glob(f"{kind}_emu2-nano_*"))
        few = max(1, limit // 10) if "draw" in kind else limit
        with tempfile.TemporaryDirectory() as name:
            again = repeat(folder, Path(name), limit=few, device=str(bench.device))
        found[folder.name] = {"n": again.compared, "same": again.compared - len(again.differing)}
    return found


def nano(bench: Bench) -> object:
    """emu2-nano in float32 on the device and on the CPU, over easy-VQA: answers, scores, drawings."""
    from emu2eval import evaluate
    from emu2eval.runs.answers import from_line

    limit = 4 if bench.tiny else 300
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
                limit=4 if bench.tiny else 300,
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
        if line is None or line.verdict == "refused" or (bench.tiny and found):
            continue
        if bench.late:
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
    from emu2eval.types import ChoiceOutput, Request, TextOutput

    prompts = [question(i, shots=4) for i in range(count)]
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


def question(number: int, shots: int) -> Prompt:
    """Fixed demonstrations, and a query of a length of its own."""
    turns = tuple(
        Turn((_image(i), f"what colour is square {i}?"), (("red", "blue")[i % 2],))
        for i in range(shots)
    )
    asked = f"what colour is square {number}?" + " please" * (number % 3)
    return Prompt((_image(shots + number), asked), turns)


def _image(number: int) -> Any:
    from PIL import Image as PILImage

    from emu2eval.media.images import from_pil

    return from_pil(PILImage.new("RGB", (64, 64), (number * 40 % 256, number * 91 % 256, 90)))
