"""Champion against challenger: which version may stand, and why."""

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


def gate_state(deficit: Interval, margin: float) -> str:
    """Whether a gate "holds", is "missed" or is "undecided": see `Gate`."""
    if deficit.high < margin:
        return "holds"
    return "missed" if deficit.low > margin else "undecided"


FEWEST_ROWS = 200
"""Test rows that neither version was trained on, below which two versions are not compared."""
RESAMPLINGS, MOST_RESAMPLINGS = 500, 10_000
"""Resamplings of a comparison at 95 %, and at most: a stricter level needs more, to have as many beyond its ends."""
FINGERPRINTS = ("data_sha256", "code_sha256", "settings_sha256", "ancestors")
"""Tags of a version that say what it was made from, its seed aside."""

Verdict = Literal["better", "equal", "worse", "not comparable"]


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
        told = self.why_not
        if self.difference:
            told = (
                f"difference {self.difference} on {self.rows:,} test rows, {self.left_out:,} left out" + self._level()
            )
        if self.twin:
            return f"Equal to {name}, which the same data, code and settings made with another seed: {told}."
        how = {"better": "Better than", "worse": "Worse than", "equal": "Equal, as far as can be told, to"}
        return f"{how[self.verdict]} {name}: {told}."

    def _level(self) -> str:
        if not self.looks:
            return ""
        looks = "1 earlier look" if self.looks == 1 else f"{self.looks} earlier looks"
        far = self.looks + 1 > MOST_RESAMPLINGS // RESAMPLINGS
        ends = f", with ends beyond what {MOST_RESAMPLINGS:,} resamplings support" if far else ""
        return f"; its level is for {looks} at this test set (Bonferroni){ends}"

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
    own = getattr(outcome.pipeline.report, "deficit", None)
    results = []
    for gate in outcome.pipeline.gates:
        if own:
            deficit = own(outcome, gate.than)
        else:
            deficit = outcome.bootstrap.deficit(NETWORK, gate.than, headline.name, headline.higher)
        state = gate_state(deficit, gate.margin)
        results.append(GateResult(gate, deficit, "missed" if gate.shown and state != "holds" else state))
    return results


def compare(outcome: Outcome, version: registry.Version, champion: registry.Version, looks: int) -> Comparison:
    """Scores the champion on today's headline test rows that neither it, nor `version`, nor an ancestor learnt from."""
    twin = all(version.tags.get(name) == champion.tags.get(name) for name in FINGERPRINTS)
    judged = Comparison(champion, looks, twin=twin)
    part = outcome.headline
    missing = manifest.lacking(part.records, champion)
    if missing:
        return replace(judged, why_not=f"it reads the column '{missing[0]}', which these records lack")
    try:
        unseen = ~(manifest.trained_on(champion, part.frame) | manifest.trained_on(version, part.frame))
        part, own = part.take(unseen), outcome.headline_scores[unseen]
        judged = replace(judged, rows=len(part), left_out=int((~unseen).sum()))
        if len(part) < FEWEST_ROWS:
            why = f"only {len(part)} of {len(unseen)} test rows are new to both, {FEWEST_ROWS} are needed"
            return replace(judged, why_not=why)
        same_code = champion.tags.get("code_sha256") == isolation.code_sha256(outcome.pipeline)
        _, other = isolation.score(champion.uri, same_code, part.records, part.rows)
        metric = outcome.pipeline.headline
        metrics = {metric.name: outcome.pipeline.report.metrics(part)[metric.name]}
        clusters = {name: part.frame[name] for name in outcome.splits.clusters}
        scores = {"new": own, "champion": other}
        count = min(RESAMPLINGS * (looks + 1), MOST_RESAMPLINGS)
        both = bootstrap(metrics, part.labels, scores, part.weights, clusters, count)
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
    """Applies the gates, then the comparison with today's champion.

    A version that misses a gate is refused. One that misses none is champion if every gate holds and there is no
    champion yet, or if the lower bound of its paired difference with the champion is above 0; else a challenger, as
    is one that differs from the champion by its seed alone.
    """
    results = gates(outcome)
    missed = [str(result) for result in results if result.state == "missed"]
    undecided = [str(result) for result in results if result.state == "undecided"]
    comparison = compare(outcome, version, champion, looks) if champion else None
    told = f" {comparison}" if comparison else ""
    if missed:
        return Decision("refused", f"A gate is missed ({'; '.join(missed)}).{told}", results, comparison)
    if undecided:
        return Decision("challenger", f"A gate is undecided ({'; '.join(undecided)}).{told}", results, comparison)
    if comparison is None:
        return Decision("champion", "Every gate holds and there was no champion yet.", results)
    kind: Literal["challenger", "champion"] = "champion" if comparison.verdict == "better" else "challenger"
    return Decision(kind, str(comparison), results, comparison)


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
