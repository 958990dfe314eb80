"""What a model runs on: asked where that is, sent to whoever plans, and given to an adapter there."""

from __future__ import annotations

from dataclasses import dataclass

from emu2eval.adapters.memory import RESERVE


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, or the part of it that a replica sees; small, and picklable.

    gpus: bytes of each GPU that can be used, as CUDA numbers them; cards: their names; host: bytes of the
    machine's own memory; others: devices of other kinds, such as "mps".
    """

    gpus: tuple[int, ...] = ()
    cards: tuple[str, ...] = ()
    host: int = 0
    others: tuple[str, ...] = ()

    @classmethod
    def here(cls) -> Machine:
        """This machine, as this process sees it. A GPU counts whole unless other processes use it, so that a
        plan is the same each time."""
        try:
            import torch
        except ModuleNotFoundError:
            return cls(host=_host())
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        sizes = [torch.cuda.mem_get_info(i) for i in range(count)]
        return cls(
            tuple(total if total - free <= RESERVE else free for free, total in sizes),
            tuple(torch.cuda.get_device_name(i) for i in range(count)),
            _host(),
            ("mps",) if torch.backends.mps.is_available() else (),
        )

    @property
    def devices(self) -> list[str]:
        """As torch calls them."""
        return ["cpu", *(f"cuda:{i}" for i in range(len(self.gpus))), *self.others]


def _host() -> int:
    try:
        import psutil  # comes with accelerate; os.sysconf is not on Windows
    except ModuleNotFoundError:
        return 0
    return int(psutil.virtual_memory().total)
