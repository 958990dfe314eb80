"""What is planned for a card beside what is taken: the largest batch, models of transformers, loading."""

from __future__ import annotations

import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from emu2eval.adapters.emu2.config import DecoderConfig, Emu2Config, VisionConfig
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.placement import plan
from emu2eval.adapters.local.search import Search
from emu2eval.errors import ModelError
from gpu_steps.answers import question
from gpu_steps.bench import GIB, Bench, unlike


def fit(bench: Bench) -> object:
    """The largest batch that `plan` puts on this card, asked for: its peak beside the plan and the card, and
    what it gains over batches of four."""
    length, new = (32, 5) if bench.tiny else (501, 9)

    def planned(batch: int) -> int:
        placement = plan(
            bench.config,
            {0: bench.memory},
            positions=length + new,
            batch=batch,
            beams=5,
            new_tokens=new,
            dtype=bench.dtype,
            quantize=None,
            painter={},
        )
        return sum(use.total for use in placement.devices if use.device == 0)

    bench.model  # noqa: B018 - its weights are no part of the time
    batch, taken = 1, planned(1)
    while batch < (8 if bench.tiny else 128):
        try:
            taken = planned(2 * batch)
        except ModelError:
            break
        batch *= 2
    prompts, inference = unlike(batch, length), bench.inference()
    search = Search(new, new, 5)
    found: dict[str, object] = {"batch": batch, "card_gib": bench.memory / GIB}
    four = bench.seconds(lambda: inference.texts(prompts[:4], search)) / len(prompts[:4])
    with bench.peak() as peak:
        started = time.perf_counter()
        inference.texts(prompts, search)
        bench.wait()
        whole = time.perf_counter() - started
    return {
        **found,
        **peak,
        "planned_gib": taken / GIB,
        "s_a_query": whole / batch,
        "s_a_query_by_four": four,
    }


def planned(bench: Bench) -> object:
    """A model of transformers of 1.3 billion parameters, built here: what is planned for its batches beside
    their peak, and what a token takes."""
    import huggingface  # the benchmark beside gpu.py

    from emu2eval.adapters.huggingface.adapter import HuggingFaceAdapter
    from emu2eval.adapters.huggingface.settings import HuggingFaceSettings
    from emu2eval.adapters.memory import Workload
    from emu2eval.types import Request, TextOutput

    bench.forget_model()
    huggingface.hf.logging.disable_progress_bar()
    sizes = {} if bench.tiny else {"hidden_size": 2048, "intermediate_size": 5632}
    if not bench.tiny:
        sizes |= {"num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16}
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        huggingface.build(Path(name) / "model", sizes, bench.dtype)
        for batch in (1, 2) if bench.tiny else (1, 8, 32, 128):
            settings = HuggingFaceSettings(
                checkpoint=str(Path(name) / "model"),
                layout="chat",
                dtype=str(bench.dtype).removeprefix("torch."),  # type: ignore[arg-type]
                batch=batch,
                device_map=str(bench.device),
            )
            adapter = HuggingFaceAdapter(settings)
            adapter.load()
            prompts = [question(i, shots=4) for i in range(batch)]

            def asked(new: int, least: int) -> list[Request]:
                out = TextOutput(new, min_new_tokens=least)
                return [Request(f"{new} {i}", prompt, out) for i, prompt in enumerate(prompts)]

            one, more = asked(1, 1), asked(17, 17)
            workload = Workload(
                positions=max(map(adapter.positions, more)), new_tokens=17, batch=batch, beams=1
            )
            found_plan = adapter.plan_memory(workload, {0: bench.memory})
            with bench.peak() as peak:
                first = bench.seconds(partial(adapter.answer, one))
                whole = bench.seconds(partial(adapter.answer, more))
            uses = () if found_plan is None else found_plan.devices
            found[str(batch)] = {
                "positions": workload.positions,
                **peak,
                "planned_gib": sum(use.total - use.reserve for use in uses) / GIB,
                "first_token_s": first,
                "step_ms": (whole - first) / 16 * 1e3,
            }
            adapter.close()
            del adapter
    return found


def loading(bench: Bench) -> object:
    """Reading a checkpoint in safetensors, from the page cache: GiB/s with the checks and the copies."""
    from safetensors.torch import save_file

    from emu2eval.adapters.emu2.checkpoint import load_model, open_checkpoint
    from emu2eval.adapters.local.placement import Placement

    bench.forget_model()
    whole = bench.config
    small = (2, 2) if bench.tiny else (4, 8)
    config = Emu2Config(
        VisionConfig(**{**_fields(whole.vision), "layers": small[0]}),
        DecoderConfig(**{**_fields(whole.decoder), "num_hidden_layers": small[1]}),
    )
    place = 0 if bench.cuda else "cpu"
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
