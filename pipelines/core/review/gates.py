"""Gates: how far the network is ahead of its baselines on test, and whether that is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from pipelines.core.contract import Gate
from pipelines.core.evaluation.bootstrap import Interval
from pipelines.core.training.trial import NETWORK, Outcome

SHOWN = 0.998
"""Least level of the interval by which a gate is judged that must be shown, one-sided .001. It does not suffice where
test has few images: of 40 networks trained on shuffled labels of 400 images one became champion, at .99 as at .998
(`make bench-shuffled`)."""
BETTER = 0.95
"""Level of the interval by which a baseline is called better than the network."""

State = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True)
class GateResult:
    """A gate with the deficit that decides it, on the headline metric, and the deficit that is allowed."""

    gate: Gate
    deficit: Interval
    margin: float = 0.0

    @property
    def state(self) -> State:
        """Whether the gate is "passed", "failed" or "undecided": see `Gate`."""
        if self.deficit.high < self.margin:
            return "passed"
        return "failed" if self.deficit.low > self.margin or self.gate.shown else "undecided"

    def __str__(self) -> str:
        """The result on a line: ahead of trees by 0.008 [-0.009, 0.024]; at most 0.01 behind is allowed: passed."""
        allowed = f"; at most {self.margin:.2g} behind is allowed" if self.margin else ""
        return f"{position(self.gate.than, self.deficit)}{allowed}: {self.state}"

    @property
    def reason(self) -> str:
        """Why the gate is not passed, as a clause about the network."""
        than, where = self.gate.than, position(self.gate.than, self.deficit)
        if self.deficit.low > self.margin:
            return f"it is {where}" + (f", at most {self.margin:.2g} is allowed" if self.margin else "")
        if self.gate.shown:
            return f"it is not shown to be ahead of {than} ({where})"
        if self.margin:
            return f"it may be more than {self.margin:.2g} behind {than} ({where})"
        lead = self.deficit.negated()
        value, low, high = lead.rounded()
        what = f"lead over {than}, {value}" if lead.value > 0 else f"deficit to {than}, {self.deficit.rounded()[0]}"
        return f"its {what}, could be chance ({100 * lead.level:.4g} % interval of the lead {low} to {high})"


def position(than: str, deficit: Interval) -> str:
    """Where the network stands to a model, in words: ahead of trees by 0.008 [-0.009, 0.024]."""
    return f"behind {than} by {deficit}" if deficit.value > 0 else f"ahead of {than} by {deficit.negated()}"


def gates(outcome: Outcome, looks: int = 0) -> list[GateResult]:
    """Every gate of the pipeline, judged on the headline rows of test.

    Args:
        outcome: of the training.
        looks: earlier evaluations on this test set, which make the level of the intervals stricter (Bonferroni).
    """
    results = []
    for gate in outcome.pipeline.gates:
        level = max(outcome.pipeline.level, SHOWN * gate.shown)
        found = deficit(outcome, gate.than, 1 - (1 - level) / (looks + 1))
        results.append(GateResult(gate, found, _margin(outcome, gate)))
    return results


def _margin(outcome: Outcome, gate: Gate) -> float:
    """The allowed deficit in units of the headline metric."""
    if not gate.of_lead_over:
        return gate.margin
    return gate.margin * max(-_ahead(outcome, gate.of_lead_over, gate.than), 0.0)


def _ahead(outcome: Outcome, model: str, than: str) -> float:
    """How far a model's headline figure is better than another's."""
    headline = outcome.pipeline.headline
    difference = outcome.resampled.values[model, headline.name] - outcome.resampled.values[than, headline.name]
    return difference if headline.higher else -difference


def deficit(outcome: Outcome, than: str, level: float) -> Interval:
    """How far the network is behind a baseline on the headline metric, by the domain's own test if it has one.

    A bootstrap's interval is that at 95 %; a stricter one is drawn out as a normal distribution's would be, since of
    500 resamplings too few are beyond its ends.
    """
    if own := outcome.pipeline.deficit:
        return own(outcome, than, level)
    headline = outcome.pipeline.headline
    found = outcome.resampled.deficit(NETWORK, than, headline.name, headline.higher, BETTER)
    return found.widened(level) if level > BETTER else found


def best_baseline(outcome: Outcome) -> str:
    """The baseline with the best headline figure."""
    return max(outcome.baseline_names, key=lambda name: _ahead(outcome, name, NETWORK))


def better_baseline(outcome: Outcome) -> tuple[str, Interval] | None:
    """The best of the baselines that are measurably better than the network, and by how much; None if none is.

    Trivial baselines, those of gates that must be shown, are left out, and so is what is no better than they are:
    nobody would use them. The level is BETTER however strict the gates are and however often the test set was looked
    at, since a stricter one would favour the network.
    """
    trivial = {gate.than for gate in outcome.pipeline.gates if gate.shown}
    rivals = [
        name
        for name in outcome.baseline_names
        if name not in trivial and all(_ahead(outcome, name, than) > 0 for than in trivial)
    ]
    behind = {name: deficit(outcome, name, BETTER) for name in rivals}
    better = [name for name, found in behind.items() if found.low > 0]
    best = max(better, key=lambda name: behind[name].value, default=None)
    return (best, behind[best]) if best else None


def frame(results: Sequence[GateResult]) -> pd.DataFrame:
    """The gates as a table, with the network's lead over each baseline, positive where it is ahead."""
    leads = [result.deficit.negated() for result in results]
    columns = {
        "baseline": [result.gate.than for result in results],
        "network ahead by": leads,
        "allowed deficit": [f"{result.margin:.2g}" if result.margin else "none" for result in results],
        "check": [result.state for result in results],
    }
    return pd.DataFrame(columns)
