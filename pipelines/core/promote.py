"""Champion against challenger: which version may stand, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from pipelines.core import evaluate, manifest, registry, scorer, tracking
from pipelines.core.evaluate import Interval
from pipelines.core.pipeline import Gate, InputError
from pipelines.core.trial import NETWORK, Outcome

FEWEST_ROWS = 200
"""Test rows that neither version was trained on, below which two versions are not compared."""


@dataclass(frozen=True)
class GateResult:
    """A gate with the deficit that it was judged by, on the headline metric."""

    gate: Gate
    deficit: Interval
    state: Literal["holds", "missed", "undecided"]

    def __str__(self) -> str:
        name = self.gate.than if isinstance(self.gate.than, str) else f"the fixed figure {self.gate.than:g}"
        asked = f"at most {self.gate.margin:g} behind {name}" if self.gate.margin else f"ahead of {name}"
        return f"{asked}: {self.state}, deficit {self.deficit}"


@dataclass(frozen=True)
class Comparison:
    """The new version minus the champion, paired on the same rows; or why the two cannot be compared."""

    champion: registry.Version
    rows: int = 0
    left_out: int = 0
    difference: Interval | None = None
    own: Interval | None = None
    other: Interval | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Decision:
    """What becomes of a version, and the reason in one sentence."""

    kind: Literal["refused", "challenger", "champion"]
    reason: str
    gates: Sequence[GateResult]
    comparison: Comparison | None = None


def gates(outcome: Outcome) -> list[GateResult]:
    """Every gate of the pipeline, judged on the headline rows of test; by the domain's own `deficit` if it has one."""
    headline = outcome.pipeline.headline
    own = getattr(outcome.pipeline.report, "deficit", None)
    results = []
    for gate in outcome.pipeline.gates:
        if own:
            deficit = own(outcome, gate.than)
        else:
            deficit = outcome.bootstrap.deficit(NETWORK, gate.than, headline.name, headline.higher)
        state = evaluate.gate(deficit, gate.margin)
        results.append(GateResult(gate, deficit, "missed" if gate.shown and state != "holds" else state))
    return results


def compare(outcome: Outcome, champion: registry.Version) -> Comparison:
    """Scores the champion on today's headline test rows, leaving out those that it was trained on.

    The new version's own training rows are on the other side of its split, which the checks have already proved.
    """
    part = outcome.headline
    missing = manifest.lacking(part.records, champion)
    if missing:
        return Comparison(champion, why_not=f"it reads the column '{missing[0]}', which these records lack")
    unseen = ~manifest.trained_on(champion, part.frame)
    part, own = part.take(unseen), outcome.headline_scores[unseen]
    left_out = int((~unseen).sum())
    if len(part) < FEWEST_ROWS:
        why = f"only {len(part)} of {len(unseen)} test rows were not used to train it, {FEWEST_ROWS} are needed"
        return Comparison(champion, len(part), left_out, why_not=why)
    same_code = champion.tags.get("code_sha256") == tracking.code_sha256(outcome.pipeline)
    try:
        other = scorer.score(champion.uri, same_code, part.records, part.rows)
        metric = outcome.pipeline.headline
        metrics = {metric.name: outcome.pipeline.report.metrics(part)[metric.name]}
        clusters = {name: part.frame[name] for name in outcome.splits.clusters}
        both = evaluate.bootstrap(metrics, part.labels, {"new": own, "champion": other}, part.weights, clusters)
        ahead = both.deficit("champion", "new", metric.name, metric.higher)
        intervals = (both.interval("new", metric.name), both.interval("champion", metric.name))
    except (InputError, RuntimeError) as error:
        return Comparison(champion, len(part), left_out, why_not=f"scoring it failed: {error}")
    return Comparison(champion, len(part), left_out, ahead, *intervals)


def decide(outcome: Outcome, champion: registry.Version | None) -> Decision:
    """Applies the gates, then the comparison with today's champion.

    A version that misses a gate is refused. One that misses none is champion if every gate holds and there is no
    champion yet, or if the lower bound of its paired difference with the champion is above 0; else a challenger.
    """
    results = gates(outcome)
    missed = [str(result) for result in results if result.state == "missed"]
    undecided = [str(result) for result in results if result.state == "undecided"]
    comparison = compare(outcome, champion) if champion else None
    if missed:
        return Decision("refused", f"A gate is missed ({'; '.join(missed)}).", results, comparison)
    if undecided:
        return Decision("challenger", f"A gate is undecided ({'; '.join(undecided)}).", results, comparison)
    if comparison is None:
        return Decision("champion", "Every gate holds and there was no champion yet.", results)
    name = f"version {comparison.champion.number}"
    if comparison.difference is None:
        return Decision("challenger", f"Not comparable with {name}: {comparison.why_not}.", results, comparison)
    told = f"{comparison.difference} on {comparison.rows:,} rows"
    if comparison.difference.low > 0:
        return Decision("champion", f"Better than {name} by {told}.", results, comparison)
    verdict = "Worse than" if comparison.difference.high < 0 else "Not measurably better than"
    return Decision("challenger", f"{verdict} {name}: difference {told}.", results, comparison)


def strongest(outcome: Outcome) -> tuple[str, Interval]:
    """The baseline with the best headline figure, and how far the network is behind it."""
    headline = outcome.pipeline.headline
    sign = 1 if headline.higher else -1
    best = max(outcome.baselines, key=lambda name: sign * outcome.bootstrap.values[name, headline.name])
    return best, outcome.bootstrap.deficit(NETWORK, best, headline.name, headline.higher)


def frame(results: Sequence[GateResult]) -> pd.DataFrame:
    """The gates as a table."""
    rows = [
        (str(r.gate.than), r.gate.margin, r.deficit.value, r.deficit.low, r.deficit.high, r.deficit.level, r.state)
        for r in results
    ]
    return pd.DataFrame(rows, columns=["than", "margin", "deficit", "low", "high", "level", "gate"])
