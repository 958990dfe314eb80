"""The chooser `listed`: each query names what is shown to it, as in a published list of prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import msgspec

from emu2eval.errors import DataError, PlanError
from emu2eval.fewshot.choosers import Chooser, Demonstration
from emu2eval.types import Sample

_decode = msgspec.json.Decoder(list[tuple[str, dict[str, str]]]).decode


class Listed(Chooser):
    """The query's field `shown`: JSON of [id in the pool, fields it has there] each, farthest first.

    The list is as long as the shots asked for, since a reader that takes `shots` is told them.
    Nothing is drawn, so trials do not differ.
    """

    def ranked(self, query: Sample, trial: int) -> Iterator[Demonstration]:
        """The one next to the query first."""
        try:
            listed = _decode(query.fields["shown"])
        except KeyError:
            raise PlanError(
                f"the query {query.id!r} has no field 'shown', which the chooser `listed` needs",
                where=self.pool.where,
                hint="use another chooser: --set task.demonstrations.chooser=random",
            ) from None
        except msgspec.DecodeError as error:
            raise DataError(
                f"the field 'shown' of the query {query.id!r} is not a list of demonstrations: {error}",
                where=self.pool.where,
            ) from None
        for number, (sample_id, fields) in enumerate(reversed(listed), 1):
            place = self.pool.position(sample_id)
            if place is None:
                raise DataError(
                    f"the query {query.id!r} lists {sample_id!r}, which does not exist",
                    where=self.pool.where,
                )
            sample = self.pool[place]
            why = f"listed: number {len(listed) - number + 1} of the query's own"
            yield Demonstration(replace(sample, fields={**sample.fields, **fields}), why)

    def choose(self, query: Sample, shots: int, trial: int) -> list[Demonstration]:
        """Raises PlanError where the query lists another number of them."""
        chosen = list(self.ranked(query, trial))[::-1]
        if len(chosen) != shots:
            raise PlanError(
                f"{shots} demonstrations are needed, but the query {query.id!r} lists {len(chosen)}",
                where=self.pool.where,
            )
        return chosen
