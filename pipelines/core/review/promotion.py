"""Promotion: checks against baselines, comparison with the champion, and the decision in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import pandas as pd

from pipelines.core.contract import Gate, InputError
from pipelines.core.evaluation.bootstrap import Interval, bootstrap
from pipelines.core.store import isolation, manifest, registry
from pipelines.core.training.trial import NETWORK, Outcome

FEWEST_ROWS = 200
"""Test rows that neither version was trained on, below which two versions are not compared."""
RESAMPLINGS, MOST_RESAMPLINGS = 500, 10_000
"""Resamplings of a comparison at 95 %, and at most: a stricter level needs more, to have as many beyond its ends."""
FINGERPRINTS = ("data_sha256", "code_sha256", "settings_sha256", "ancestors")
"""Tags of a version that say what it was made from, its seed aside."""

GateState = Literal["passed", "failed", "undecided"]
Verdict = Literal["better", "equal", "worse", "not comparable"]


def gate_state(deficit: Interval, margin: float) -> GateState:
    """Whether a gate is "passed", "failed" or "undecided": see `Gate`."""
    if deficit.high < margin:
        return "passed"
    return "failed" if deficit.low > margin else "undecided"


@dataclass(frozen=True)
class GateResult:
    """A gate with the deficit that decides it, on the headline metric."""

    gate: Gate
    deficit: Interval
    state: GateState

    def __str__(self) -> str:
        """The result on a line: ahead of trees by 0.008 [-0.009, 0.024]; at most 0.01 behind is allowed: passed."""
        allowed = f"; at most {self.gate.margin:g} behind is allowed" if self.gate.margin else ""
        return f"{self._position()}{allowed}: {self.state}"

    def _position(self) -> str:
        if self.deficit.value > 0:
            return f"behind {self.gate.than} by {self.deficit}"
        return f"ahead of {self.gate.than} by {self.deficit.negated()}"

    @property
    def reason(self) -> str:
        """Why the gate is not passed, as a clause about the network."""
        than, margin = self.gate.than, self.gate.margin
        if self.deficit.low > margin:
            return f"it is {self._position()}" + (f", at most {margin:g} is allowed" if margin else "")
        if self.gate.shown:
            return f"it is not shown to be ahead of {than} ({self._position()})"
        if margin:
            return f"it may be more than {margin:g} behind {than} ({self._position()})"
        lead = self.deficit.negated()
        value, low, high = lead.rounded()
        what = f"lead over {than}, {value}" if lead.value > 0 else f"deficit to {than}, {self.deficit.rounded()[0]}"
        return f"its {what}, could be chance ({100 * lead.level:.4g} % interval of the lead {low} to {high})"


@dataclass(frozen=True)
class Comparison:
    """The new version minus the champion, paired on the same rows; or why the two cannot be compared.

    `looks` counts the earlier runs that were judged on the same test set, for which `difference` has a stricter level.
    """

    champion: registry.Version
    looks: int = 0
    rows: int = 0
    left_out: int = 0
    difference: Interval | None = None
    own: Interval | None = None
    other: Interval | None = None
    why_not: str = ""
    twin: bool = False

    @property
    def verdict(self) -> Verdict:
        if self.twin:
            return "equal"
        if self.difference is None:
            return "not comparable"
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "equal"

    def __str__(self) -> str:
        name = f"version {self.champion.number}"
        if self.verdict == "not comparable":
            return f"Not comparable with {name}: {self.why_not}."
        detail = self.why_not
        if self.difference:
            detail = (
                f"difference {self.difference} on {self.rows:,} test rows, {self.left_out:,} left out" + self._level()
            )
        if self.twin:
            return f"Equal to {name}, which the same data, code and settings made with another seed: {detail}."
        how = {"better": "Better than", "worse": "Worse than", "equal": "Not measurably different from"}
        return f"{how[self.verdict]} {name}: {detail}."

    def _level(self) -> str:
        if not self.looks:
            return ""
        looks = "1 earlier evaluation" if self.looks == 1 else f"{self.looks} earlier evaluations"
        far = self.looks + 1 > MOST_RESAMPLINGS // RESAMPLINGS
        ends = f", with ends beyond what {MOST_RESAMPLINGS:,} resamplings support" if far else ""
        return f"; its level allows for {looks} on this test set (Bonferroni){ends}"

    def tags(self) -> dict[str, str]:
        """What the version and its run keep of it."""
        figures = {"figure": self.own, "champion_figure": self.other, "difference": self.difference}
        return {
            "verdict": self.verdict,
            "compared_with": str(self.champion.number),
            "champion_data_sha256": self.champion.tags.get("data_sha256", ""),
            "compared_rows": str(self.rows),
            "left_out_rows": str(self.left_out),
            "earlier_looks": str(self.looks),
            **{name: str(interval) for name, interval in figures.items() if interval},
        }


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
    own = outcome.pipeline.deficit
    results = []
    for gate in outcome.pipeline.gates:
        if own:
            deficit = own(outcome, gate.than)
        else:
            deficit = outcome.resampled.deficit(NETWORK, gate.than, headline.name, headline.higher)
        state = gate_state(deficit, gate.margin)
        results.append(GateResult(gate, deficit, "failed" if gate.shown and state != "passed" else state))
    return results


def compare(outcome: Outcome, version: registry.Version, champion: registry.Version, looks: int) -> Comparison:
    """Score the champion on today's headline test rows that neither it, nor `version`, nor an ancestor learnt from."""
    twin = all(version.tags.get(name) == champion.tags.get(name) for name in FINGERPRINTS)
    judged = Comparison(champion, looks, twin=twin)
    part, pipeline = outcome.headline, outcome.pipeline
    missing = manifest.missing_columns(part.data, champion)
    if missing:
        return replace(judged, why_not=f"it reads the column '{missing[0]}', which these records lack")
    try:
        own_rows = part.data.take(part.rows)
        unseen = ~(manifest.trained_on(champion, own_rows) | manifest.trained_on(version, own_rows))
        part = part.take(unseen)
        judged = replace(judged, rows=len(part), left_out=int((~unseen).sum()))
        if len(part) < FEWEST_ROWS:
            why = f"only {len(part)} of {len(unseen)} test rows are new to both, {FEWEST_ROWS} are needed"
            return replace(judged, why_not=why)
        other = isolation.score(champion.uri, champion.same_code(pipeline), part.data, part.rows)
        metric = pipeline.headline
        measures = other.measures if other.scores is None else pipeline.task.measures(other.scores, part)
        own = {name: values[outcome.counted][unseen] for name, values in outcome.models[NETWORK].measures.items()}
        metrics = {metric.name: pipeline.task.metrics(outcome.facts)[metric.name]}
        clusters = outcome.splits.clusters_of(part)
        count = min(RESAMPLINGS * (looks + 1), MOST_RESAMPLINGS)
        both = bootstrap(metrics, {"new": own, "champion": measures}, part.weights, clusters, count)
        return replace(
            judged,
            difference=stricter(partial(both.deficit, "champion", "new", metric.name, metric.higher), looks),
            own=both.interval("new", metric.name),
            other=both.interval("champion", metric.name),
        )
    except (InputError, RuntimeError) as error:
        return replace(judged, why_not=f"scoring it failed: {error}".rstrip("."))


def stricter(interval: Callable[..., Interval], looks: int) -> Interval:
    """The `interval(level=…)` that decides after so many earlier looks at the same rows.

    Bonferroni: the chance of a false promotion in all looks together stays at that of one interval at 95 %. Beyond
    the level that MOST_RESAMPLINGS can support, the interval is widened as a normal one would be.
    """
    supported = min(looks + 1, MOST_RESAMPLINGS // RESAMPLINGS)
    found = interval(level=1 - 0.05 / supported)
    return found if supported == looks + 1 else found.widened(1 - 0.05 / (looks + 1))


def decide(outcome: Outcome, version: registry.Version, champion: registry.Version | None, looks: int = 0) -> Decision:
    """Apply the gates, then compare with the current champion.

    A version that fails a gate is refused. One that fails none is champion if it passes every gate and there is no
    champion yet, or if the lower bound of its paired difference with the champion is above 0; else it is a challenger,
    as is one that differs from the champion by its seed alone.
    """
    results = gates(outcome)
    comparison = compare(outcome, version, champion, looks) if champion else None
    then = f" {comparison}" if comparison else ""
    reasons = {state: [r.reason for r in results if r.state == state] for state in ("failed", "undecided")}
    if reasons["failed"]:
        return Decision("refused", f"Not good enough: {'; '.join(reasons['failed'])}.{then}", results, comparison)
    if reasons["undecided"]:
        return Decision("challenger", f"Not promoted: {'; '.join(reasons['undecided'])}.{then}", results, comparison)
    if comparison is None:
        return Decision("champion", "All checks passed. This is the first model, so it is now in use.", results)
    return Decision(
        "champion" if comparison.verdict == "better" else "challenger", str(comparison), results, comparison
    )


def strongest(outcome: Outcome) -> tuple[str, Interval]:
    """The baseline with the best headline figure, and how far the network is behind it."""
    headline = outcome.pipeline.headline
    sign = 1 if headline.higher else -1
    best = max(outcome.baseline_names, key=lambda name: sign * outcome.resampled.values[name, headline.name])
    return best, outcome.resampled.deficit(NETWORK, best, headline.name, headline.higher)


def frame(results: Sequence[GateResult]) -> pd.DataFrame:
    """The gates as a table, with the network's lead over each baseline, positive where it is ahead."""
    leads = [result.deficit.negated() for result in results]
    columns = {
        "baseline": [result.gate.than for result in results],
        "lead": [lead.value for lead in leads],
        "low": [lead.low for lead in leads],
        "high": [lead.high for lead in leads],
        "level": [lead.level for lead in leads],
        "allowed deficit": [result.gate.margin for result in results],
        "check": [result.state for result in results],
    }
    return pd.DataFrame(columns)
