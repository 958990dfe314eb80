"""Where weights go and how precisely they are kept, where the settings leave it open."""

from __future__ import annotations

import torch


def torch_dtype(name: str | None) -> torch.dtype:
    """By name; None = bfloat16 on a GPU and float32 on the CPU, where bfloat16 is very slow."""
    if name is None:
        return torch.bfloat16 if torch.cuda.is_available() else torch.float32
    found: torch.dtype = getattr(torch, name)
    return found


def default_device() -> torch.device:
    """The first GPU, or the CPU where there is none."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
