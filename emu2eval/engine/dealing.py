"""Deals the requests of a run to parts: processes that know nothing of each other but the plan.

Batches are those of a run in one process, so that every answer has the same bits. For that a part follows the
whole plan (0.3 ms a request that is not its own), because a request that equals one before it is in no batch.
Where there are plenty of windows, these are dealt in turn; of a smaller run, the batches that are cut from
them, which also takes the length of every prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

from emu2eval.engine.checking import CheckedAhead
from emu2eval.engine.cutting import WINDOW, BatchSize, Cutting, Settled, by_length
from emu2eval.engine.plan import Held, Plan, Planned
from emu2eval.engine.work import Work
from emu2eval.runs.parts import Deal, RunPart

WINDOWS_EACH = 8
"""Windows for each part from which on whole windows are dealt: none has an eighth more than others."""
STREAMED, GROWING = 16, 256
"""Requests dealt together at most, of a model that takes them one by one, and where the batch still grows."""


def deal_of(plan: Plan, part: RunPart, size: BatchSize, *, streams: bool) -> Deal:
    """How a plan is dealt if this part is the first."""
    requests, batch = len(plan), None
    if streams or size.growing:
        # Batches decide no bits here, so that each part can have about as many requests.
        most = STREAMED if streams else GROWING
        rounds = max(1, -(-requests // (most * part.of)))
        window = max(1, -(-requests // (rounds * part.of)))
        whole = True
    else:
        batch, window = size.now, size.now * WINDOW
        whole = requests >= window * part.of * WINDOWS_EACH
    return Deal(
        id=uuid4().hex,
        of=part.of,
        requests=requests,
        extent=plan.extent,
        left_out=plan.left_out,
        batch=batch,
        window=window,
        unit="window" if whole else "batch",
        command=part.command,
    )


class PartCutting(Cutting):
    """The batches of one part. twin: told of a request that equals one before it, whoever is asked that."""

    def __init__(
        self,
        work: Work,
        settled: Settled,
        checked: CheckedAhead,
        size: BatchSize,
        *,
        exact: bool,
        streams: bool,
        deal: Deal,
        number: int,
        twin: Callable[[Planned], None],
    ):
        super().__init__(work, settled, checked, size, exact=exact, streams=streams)
        self._deal = deal
        self._number = number
        self._twin = twin
        self._exact = deal.batch is not None
        self._seen: set[bytes] = set()
        """Keys of what is asked by whichever part, as far as the plan was looked through."""
        self._entries: Iterator[Planned | Held] = iter(())
        self._place = 0
        self._window: list[Planned | Held] = []
        self._complete = False
        windows = -(-deal.requests // deal.window)
        last = next((n for n in reversed(range(windows)) if self._looked_into(n)), -1)
        self._end = min(deal.requests, (last + 1) * deal.window)

    def __iter__(self) -> Iterator[list[Planned]]:
        deal, store, under_way = self._deal, self._settled.store, self._settled.under_way
        self._entries = self._work.to_ask(store)
        while self._read_on():
            number = (self._place - 1) // deal.window
            window, self._window, self._complete = self._window, [], False
            left = self._asked_of(window, mine=self._mine(number))
            if not self._streams:
                left = by_length(self._work.adapter, left)
            size, batch = self._size.now, number * WINDOW
            while left:
                group, left = left[:size], left[size:]
                dealt = deal.unit == "window" or self._mine(batch)
                batch += 1
                if not dealt:
                    continue
                missing = [p for p in group if not store.has(p.slot, p.request.key)]
                self._settled.kept(len(group) - len(missing))
                asked = self._asked(group) if self._exact else missing
                if asked:
                    under_way.update({p.request.key: [p] for p in missing})
                    yield asked
                    size = self._size.now
                    # A little with every batch: nothing waits long for what others are asked.
                    self._read_on(len(group) * deal.of)

    def _mine(self, unit: int) -> bool:
        return unit % self._deal.of == self._number - 1

    def _looked_into(self, window: int) -> bool:
        return self._deal.unit == "batch" or self._mine(window)

    def _read_on(self, most: int | None = None) -> bool:
        """Looks through the plan to the end of the next window that this part has a share of, at `most` so
        many requests further. Whether one is complete."""
        deal = self._deal
        while not self._complete and self._place < self._end and most != 0:
            entry = next(self._entries)
            if self._looked_into(self._place // deal.window):
                self._window.append(entry)
            elif isinstance(entry, Planned):
                self._seen.add(_short(entry))
            self._place += 1
            self._complete = bool(self._window) and (
                self._place % deal.window == 0 or self._place == deal.requests
            )
            most = None if most is None else most - 1
        return self._complete

    def _asked_of(self, window: list[Planned | Held], *, mine: bool) -> list[Planned]:
        """Those of a window that are asked, or were, by whichever part. mine: what is not asked is this
        part's to tell."""
        store = self._settled.store
        kept = self._settled.kept if mine else lambda count: None
        if all(not isinstance(each, Planned) for each in window):
            kept(len(window))
            return []
        found: list[Planned] = []
        for each in window:
            planned = each if isinstance(each, Planned) else each()
            key = planned.request.key
            short = _short(planned)
            if store.has(planned.slot, key):
                if store.owns(planned.slot):
                    self._seen.add(short)
                    found.append(planned)
                else:
                    kept(1)
            elif short in self._seen or store.twin(key) is not None:
                if mine:
                    self._twin(planned)
            elif (refused := self._refusal(planned)) is None:
                self._seen.add(short)
                found.append(planned)
            elif mine:
                self._settled.refused(planned, refused)
        return found


def _short(planned: Planned) -> bytes:
    """Half a key: enough to tell a billion requests apart, in less memory."""
    return bytes.fromhex(planned.request.key[:32])
