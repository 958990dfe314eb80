"""Weights into modules: checked by name and shape, then streamed to their devices one tensor at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from emu2eval.adapters.emu2 import sdxl
from emu2eval.adapters.emu2.config import Emu2Config
from emu2eval.adapters.emu2.layouts import Part, Tensors
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.painter import Painter, refuse_half
from emu2eval.adapters.emu2.quantize import quantize_decoder, quantized_weight
from emu2eval.adapters.local.bits import Bits
from emu2eval.adapters.local.devices import default_device
from emu2eval.adapters.local.placement import Placement
from emu2eval.adapters.local.tensorfile import is_safetensors, stream
from emu2eval.adapters.local.weights import check_tensors
from emu2eval.adapters.memory import Device
from emu2eval.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_BLOCK = re.compile(r"(visual\.blocks|decoder\.lm\.model\.layers)\.\d+")


def build_encoder(
    config: Emu2Config,
    tensors: Tensors,
    *,
    dtype: torch.dtype,
    placement: Placement | None,
    quantize: Bits | None,
    where: Path,
    offload: Path | None,
    mesh: DeviceMesh | None = None,
) -> Emu2:
    """The vision tower, the bridges and the language model with their weights, ready to run.

    mesh: of the ranks that hold the language model together.
    """
    with torch.device("meta"):
        # In its final dtype even while empty: accelerate casts offloaded weights to what it finds.
        model = Emu2(config).to(dtype)
    check_tensors(model, tensors, where)
    if quantize is not None:
        quantize_decoder(model, quantize, dtype)
    model.eval().requires_grad_(False)
    if mesh is not None:
        from emu2eval.adapters.local.shares import fill_shares, split

        device = default_device()
        whole = {name: tensors[name] for name in split(model, model.decoder.lm, mesh)}
        fill(model, whole, dtype, lambda _: device)
        fill_shares(model, tensors, dtype, device)
        return model
    if placement is None:
        device = default_device()
        fill(model, tensors, dtype, lambda _: device)
        return model
    if quantize is not None and placement.offloaded:
        raise ConfigError(
            f"quantised weights cannot be offloaded to {' or '.join(placement.offloaded)}",
            hint="give the GPUs more memory, or remove `quantize`",
        )
    _fill_and_dispatch(model, tensors, dtype, placement, offload)
    return model


def build_painter(
    configs: Mapping[str, Mapping[str, Any]],
    parts: Mapping[Part, Tensors],
    *,
    dtype: torch.dtype,
    device: torch.device | Device,
    safety: bool,
    where: Path,
) -> Painter:
    """UNet, VAE, scheduler and, if wanted, the safety checker, with their weights on one device.

    configs: of "unet", "vae", "scheduler"; those that are absent are SDXL's.
    """
    import diffusers
    from accelerate import init_empty_weights

    refuse_half(dtype)
    needed: tuple[Part, Part] = ("unet", "vae")
    for part in needed:
        if part not in parts:
            raise ModelError(
                f"this checkpoint has no {part}, so it cannot generate images",
                where=where,
                hint="for images, use Emu2-Gen (BAAI/Emu2-Gen)",
            )
    with init_empty_weights(include_buffers=False):
        unet = _made(diffusers.UNet2DConditionModel, configs.get("unet", sdxl.UNET), where)
        vae = _made(diffusers.AutoencoderKL, configs.get("vae", sdxl.VAE), where)
    for part, module in zip(needed, (unet, vae), strict=True):
        check_tensors(module, parts[part], where)
        fill(module, parts[part], dtype, lambda _: device)
    checker = None
    if safety:
        from emu2eval.adapters.emu2.safety import SafetyChecker, empty_checker

        if "safety_checker" not in parts:
            raise ModelError("this checkpoint has no safety checker", where=where)
        model = empty_checker()
        check_tensors(model, parts["safety_checker"], where)
        fill(model, parts["safety_checker"], dtype, lambda _: device)
        checker = SafetyChecker(model.to(device))
    return Painter(unet, vae, _scheduler(configs.get("scheduler", sdxl.SCHEDULER), where), checker)


def fill(
    module: nn.Module,
    tensors: Tensors,
    dtype: torch.dtype,
    device_of: Callable[[str], torch.device | Device],
) -> None:
    """Puts every stored tensor into the module, in `dtype`, on the device of its name."""
    pinned = any(_is_gpu(device) for device in {device_of(name) for name in tensors})
    for name, tensor in stream(tensors.items(), pinned):
        place(module, name, tensor, dtype, device_of(name))


def _is_gpu(device: torch.device | Device) -> bool:
    return isinstance(device, int) or str(device).startswith("cuda")


def place(
    module: nn.Module,
    name: str,
    tensor: torch.Tensor,
    dtype: torch.dtype,
    device: torch.device | Device,
) -> None:
    """Replaces one parameter by a copy of a tensor on a device, quantised where the module is."""
    parent_name, _, leaf = name.rpartition(".")
    parent = module.get_submodule(parent_name)
    target = device if isinstance(device, torch.device) else torch.device(device)
    parameter = quantized_weight(parent, leaf, tensor, dtype, target)
    if parameter is None:
        parameter = nn.Parameter(tensor.to(target, dtype, copy=True), requires_grad=False)
    parent.register_parameter(leaf, parameter)


def _fill_and_dispatch(
    model: Emu2,
    tensors: Tensors,
    dtype: torch.dtype,
    placement: Placement,
    offload_folder: Path | None,
) -> None:
    from accelerate.hooks import attach_align_device_hook_on_blocks
    from accelerate.utils import OffloadedWeightsLoader, offload_weight

    _refuse_split(tensors, placement)
    on_cpu: dict[str, torch.Tensor] = {}
    on_disk: dict[str, dict[str, Any]] = {}
    to_read: dict[str, Any] = {}
    for name, stored in tensors.items():
        if placement.device_of(name) == "disk" and is_safetensors(stored.file):
            # The checkpoint itself serves as the offloaded copy: nothing is written.
            on_disk[name] = {
                "safetensors_file": str(stored.file),
                "weight_name": stored.key,
                "dtype": str(dtype).removeprefix("torch."),
            }
        else:
            to_read[name] = stored
    for name, tensor in stream(
        to_read.items(), any(map(_is_gpu, set(placement.device_map.values())))
    ):
        device = placement.device_of(name)
        if device == "disk":
            if offload_folder is None:
                raise ConfigError(
                    "offloading a pickle to disk needs a folder to write to",
                    hint="set `offload_folder`, or use the checkpoint's safetensors files",
                )
            offload_folder.mkdir(parents=True, exist_ok=True)
            offload_weight(tensor.to(dtype), name, str(offload_folder), on_disk)
        elif device == "cpu" and placement.main != "cpu":
            on_cpu[name] = tensor.to(dtype, copy=True)
        else:
            place(model, name, tensor, dtype, device)
    # Between GPUs the model itself moves what goes from block to block: hooks on all modules would take a
    # fifth to two fifths more of the host's time for a token.
    weights_map = OffloadedWeightsLoader(
        state_dict=on_cpu,
        save_folder=str(offload_folder) if offload_folder is not None else None,
        index=on_disk,
    )
    modules = dict(model.named_modules())
    for name, device in placement.device_map.items():
        if device in placement.offloaded and name in modules:
            attach_align_device_hook_on_blocks(
                modules[name],
                execution_device={name: placement.main},
                offload={name: True},
                weights_map=weights_map,
                module_name=name,
                skip_keys="past_key_values",
            )


def _refuse_split(names: Iterable[str], placement: Placement) -> None:
    """Raises ConfigError for a block of which one part lies elsewhere than the others."""
    found: dict[str, set[Device]] = {}
    for name in names:
        if match := _BLOCK.match(name):
            found.setdefault(match[0], set()).add(placement.device_of(name))
    for block, devices in found.items():
        if len(devices) > 1:
            raise ConfigError(
                f"device_map puts parts of {block} on {' and '.join(sorted(map(str, devices)))}",
                hint=f"put all of a block on one device: {block}",
            )


def _made(kind: Any, config: Mapping[str, Any], where: Path) -> Any:
    name = config.get("_class_name", kind.__name__)
    if name != kind.__name__:
        raise ModelError(f"its config.json describes a {name}, not a {kind.__name__}", where=where)
    try:
        return kind.from_config(dict(config)).eval().requires_grad_(False)
    except Exception as error:  # diffusers raises whatever it stumbles over
        raise ModelError(
            f"{name} cannot be built from its config.json: {error}", where=where
        ) from None


def _scheduler(config: Mapping[str, Any], where: Path) -> Any:
    import diffusers

    name = str(config.get("_class_name"))
    base: Any = diffusers.SchedulerMixin
    kind: Any = getattr(diffusers, name, None)
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise ModelError(
            f"diffusers {diffusers.__version__} has no scheduler {name!r}",
            where=where,
            hint="the authors use EulerDiscreteScheduler",
        )
    made: Any = kind
    try:
        return made.from_config(dict(config))
    except Exception as error:  # as above
        raise ModelError(
            f"{name} cannot be built from its scheduler_config.json: {error}", where=where
        ) from None
