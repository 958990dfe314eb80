"""Threads of torch on the CPU: a model's setting while it is loaded, and one where images are prepared."""

from __future__ import annotations

from threading import Lock, Thread, current_thread, local, main_thread

_known = local()
_turn = Lock()


def set_threads(count: int) -> int:
    """Sets torch's threads for the whole process; returns how many there were."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    return before


def one_here() -> None:
    """Calls of torch from this thread use no other thread from now on; nothing changes on the main one.

    Otherwise each of N threads that prepare images would start N more.
    """
    if current_thread() is main_thread() or getattr(_known, "done", False):
        return
    _known.done = True
    # The call counts for this thread and for those that begin later; those are given back what they had,
    # before another one takes the 1 for it.
    with _turn:
        before = set_threads(1)
        other = Thread(target=set_threads, args=(before,))
        other.start()
        other.join()
