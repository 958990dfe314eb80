"""A chooser: birds of the query's kind first, in the order of their ids."""

from collections.abc import Iterator

from emu2eval import Chooser, Demonstration, Sample


class SameBird(Chooser):
    def ranked(self, query: Sample, trial: int) -> Iterator[Demonstration]:
        bird = query.fields["bird"]
        for same in (True, False):
            for sample in self.pool:
                if (sample.fields["bird"] == bird) == same:
                    yield Demonstration(sample, f"also a {bird}" if same else f"no {bird}")
