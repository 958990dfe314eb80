"""What a model of this process runs on, as run.json says it."""

from __future__ import annotations

import sys

from emu2eval.adapters.base import Adapter


def devices_of(adapter: Adapter) -> dict[str, int]:
    """How many of each device this process has for the model: `{"NVIDIA H200": 1}`; none for one that runs
    elsewhere, or on nothing in particular."""
    told = adapter.devices()
    if told is not None:
        return dict(told)
    if adapter.device_setting is None:
        return {}
    torch = sys.modules.get("torch")  # who loaded a model without it needs no GPU
    if torch is None or not torch.cuda.is_available():
        return {"CPU": 1}
    found: dict[str, int] = {}
    for number in range(torch.cuda.device_count()):
        name = str(torch.cuda.get_device_name(number))
        found[name] = found.get(name, 0) + 1
    return found
