"""Which beginning the latest prompts share, so that its keys and values are computed once and kept.

Fixed demonstrations, the system message and an image with many questions all make prompts begin
alike. What counts as alike is the token ids together with the digests of the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from emu2eval.adapters.encoded import Encoded, common

CACHE_BYTES = 4 << 30
"""4 GiB holds a full context of a 33B decoder in bf16 (1.6 MB a position)."""
WORTHWHILE = 16
"""Positions below which a pass of its own costs more than it saves."""


@dataclass
class Beginnings:
    """Follows the prompts of a run. known: what the keys and values that are kept stand for."""

    known: tuple[int | str, ...] = ()
    _previous: tuple[int | str, ...] | None = None

    def shared(
        self,
        prompts: Sequence[Encoded],
        most: int,
        whole: Callable[[Encoded, int], int] = lambda prompt, length: length,
    ) -> tuple[int, int]:
        """(usable, wanted): positions of the known beginning that fit all prompts; how many are worth having.

        Each prompt keeps a last position to be read on its own: the one that is continued. A prompt alone
        is compared with the one before it. most: positions that may be kept; whole: the length itself or a
        smaller one at which a prompt can be cut.
        """
        signatures = [prompt.signature for prompt in prompts]
        room = min(len(s) for s in signatures) - 1
        others = [self._previous] if len(prompts) == 1 and self._previous is not None else []
        alone = len(prompts) == 1 and not others
        alike = 0 if alone else min(room, most, common([*signatures, *others]))
        usable = whole(prompts[0], min(room, common([*signatures, self.known])))
        alike = whole(prompts[0], alike)
        self._previous = signatures[0]
        if alike >= usable + WORTHWHILE:
            return usable, alike
        return (usable, usable) if usable >= WORTHWHILE else (usable, 0)
