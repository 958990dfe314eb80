"""Threads of torch on the CPU: a model's setting while it is loaded."""

from __future__ import annotations


def set_threads(count: int) -> int:
    """Sets torch's threads for the whole process; returns how many there were."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    return before
