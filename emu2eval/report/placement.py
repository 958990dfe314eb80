"""Which part of a model would go to which device, on paper: no weights and no GPU are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from emu2eval.adapters.emu2.memory import TEXT, parse_memory, prompt_positions
from emu2eval.errors import ConfigError, MissingExtra
from emu2eval.spec.model import load_model

if TYPE_CHECKING:
    from emu2eval.adapters.emu2.placement import Placement


def show_plan(
    model_name: str,
    memory: str,
    shots: int = 0,
    batch: int | None = None,
    *,
    beams: int | None = None,
    quantize: int | None = None,
    images: int = 1,
    text_tokens: int = TEXT,
    new_tokens: int = 10,
) -> RenderableType:
    """A table of devices for one of the Emu2 models and a run of so many shots.

    Each demonstration and the query take `images` images and `text_tokens` tokens. What is None comes
    from the model's own settings. Raises ModelError, with what would fit, where it does not.
    """
    spec = load_model(model_name)
    if spec.adapter != "emu2":
        raise ConfigError(
            f"plan knows the memory of Emu2 models; {spec.name} is of the adapter {spec.adapter!r}",
            hint="emu2eval ls models",
        )
    try:
        from emu2eval.adapters.emu2.checkpoint import sizes
        from emu2eval.adapters.emu2.hardware import named_dtype
        from emu2eval.adapters.emu2.placement import plan
        from emu2eval.adapters.emu2.quantize import check_bits
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", "emu2", why="planning") from None
    settings = spec.settings
    batch = batch or int(settings.get("batch", 4))
    beams = beams or int(settings.get("beams", 5))
    bits = quantize or settings.get("quantize")
    dtype = str(settings.get("dtype") or "bfloat16")
    config = sizes(str(settings.get("checkpoint", "")), settings.get("variant"), spec.name)
    positions = prompt_positions(config.n_query, shots, new_tokens, images, text_tokens)
    placement = plan(
        config,
        parse_memory(memory),
        positions=positions,
        batch=batch,
        beams=beams,
        new_tokens=new_tokens,
        dtype=named_dtype(dtype),
        quantize=check_bits(bits) if bits is not None else None,
    )
    weights = f"{bits}-bit" if bits is not None else dtype
    summary = (
        f"{spec.name} · {weights} · {shots} shots · {positions:,} positions "
        f"({images} × {config.n_query} for images and {text_tokens} for text, each) "
        f"· batch {batch} · {beams} beams"
    )
    parts: list[RenderableType] = [Text(summary), _table(placement)]
    if positions > config.decoder.max_position_embeddings:
        parts.append(
            Text(
                f"{positions:,} positions are more than the "
                f"{config.decoder.max_position_embeddings:,} that the model was trained for",
                style="yellow",
            )
        )
    note = "weights, keys and values are counted; activations are an upper estimate"
    if placement.offloaded:
        note += (
            f"; what rests on {' and '.join(placement.offloaded)} is copied for every pass: slow"
        )
    parts.append(Text(note, style="dim"))
    return Group(*parts)


def _table(placement: Placement) -> Table:
    from emu2eval.adapters.emu2.memory import gib

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("device")
    table.add_column("blocks")
    for name in ("weights", "keys/values", "activations", "reserve", "total", "of"):
        table.add_column(name, justify="right", no_wrap=True)
    for use in placement.devices:
        name = f"GPU {use.device}" if isinstance(use.device, int) else str(use.device)
        sizes = (use.weights, use.cache, use.activations, use.reserve, use.total)
        budget = "no limit" if use.budget is None else gib(use.budget)
        table.add_row(name, _blocks(placement, use.device), *map(gib, sizes), budget)
    return table


def _blocks(placement: Placement, device: Any) -> str:
    shown = []
    if device == placement.main:
        shown.append("embeddings, bridges, lm_head")
    for title, prefix in (("vision", "visual.blocks."), ("layers", "decoder.lm.model.layers.")):
        numbers = sorted(
            int(name.removeprefix(prefix))
            for name, where in placement.device_map.items()
            if name.startswith(prefix) and where == device
        )
        if numbers:
            shown.append(f"{title} {numbers[0]}–{numbers[-1]}")
    if device == placement.painter:
        shown.append("UNet, VAE")
    return ", ".join(shown) or "nothing"
