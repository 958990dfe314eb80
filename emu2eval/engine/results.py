"""What an evaluation gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emu2eval.engine.runner import Tally
from emu2eval.types import Row
from emu2eval.watch import RunEnd


@dataclass(frozen=True)
class Result:
    """One finished run: its rows (the whole first, then sub-scores), its folder, what was done.

    judged: what was done by the judge, where there is one. unread: why answers have no score, or lack a part
    of it, since the judge's replies cannot be read; with how many.
    """

    rows: list[Row]
    folder: Path
    tally: Tally
    judged: Tally = field(default_factory=Tally)
    unread: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        if not self.rows:
            return f"Result({str(self.folder)!r})"
        row = self.rows[0]
        value = "unscored" if row.value is None else f"{row.label} {row.value:.{row.digits}f}"
        if row.stderr is not None:
            value += f" ± {row.stderr:.{row.digits}f}"
        asked = f"{row.task}, {row.model}, {row.setting} shots"
        return f"Result({asked}: {value}, n={row.n:,}, {str(self.folder)!r})"

    @property
    def failed(self) -> int:
        """Requests without an answer, of the model or of the judge."""
        return sum(tally.failed + tally.refused for tally in (self.tally, self.judged))

    @property
    def why(self) -> str | None:
        """What the first failed request was answered."""
        return self.tally.why or self.judged.why

    @property
    def end(self) -> RunEnd:
        """As a watcher is told of it."""
        done = self.tally
        return RunEnd(
            self.folder,
            done.asked,
            done.kept,
            done.copied,
            self.failed,
            self.judged.asked,
            tuple((done + self.judged).again.values()),
        )
