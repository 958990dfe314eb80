"""Whether the second run of a comparison is worse, beyond chance or by a margin: what a check in CI asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from emu2eval.compare.comparison import Difference
from emu2eval.errors import ConfigError, UnknownName

Verdict = Literal["worse", "better", "unclear"]
CONDITIONS = ("worse",)
LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Gate:
    """What makes a comparison fail.

    level: of the p-value, corrected (Holm) where several comparisons are made, below which a worse value is
    worse beyond chance. margin: instead, any value that is worse by more than this, on the metric's scale.
    """

    level: float = LEVEL
    margin: float | None = None

    @classmethod
    def of(cls, condition: str, level: float | None, margin: float | None) -> Gate:
        """As the command line names it. Raises ConfigError."""
        if condition not in CONDITIONS:
            raise UnknownName("condition", condition, CONDITIONS, where="--fail-if")
        if level is not None and margin is not None:
            raise ConfigError(
                "--level and --margin cannot be combined",
                hint="--level 0.01: significantly worse; --margin 1: worse by more than one point",
            )
        if level is not None and not 0 < level < 1:
            raise ConfigError(f"--level must be between 0 and 1, not {level}", hint="--level 0.05")
        if margin is not None and not 0 <= margin < float("inf"):
            raise ConfigError(f"--margin must be at least 0, not {margin}", hint="--margin 0.5")
        return cls(LEVEL if level is None else level, margin)

    def failing(self, differences: Sequence[Difference]) -> list[Difference]:
        """Those whose second run is worse. Of a pair of runs its first metric counts, over all samples."""
        return [one for one in self.heads(differences) if self.verdict(one) == "worse"]

    def heads(self, differences: Sequence[Difference]) -> list[Difference]:
        """Of each pair of runs the difference that is judged: of its first metric, over all samples."""
        heads: dict[tuple[str, str], Difference] = {}
        for one in differences:
            if one.group is None:
                heads.setdefault((one.first_run, one.second_run), one)
        return list(heads.values())

    def verdict(self, one: Difference) -> Verdict:
        """What the second run is, by this rule."""
        if one.difference is None:
            return "unclear"
        lost = -one.difference if one.higher_is_better else one.difference
        p = one.p if one.holm is None else one.holm
        if self.margin is not None:
            shown = abs(lost) > self.margin
        else:
            shown = lost != 0 and p is not None and p < self.level
        if not shown:
            return "unclear"
        return "worse" if lost > 0 else "better"
