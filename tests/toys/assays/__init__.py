"""A regression of two quantities of any sign, each measured for some records only."""

from pipelines.core.contract import Gate, Metric, Pipeline, Settings

PIPELINE = Pipeline("assays", "Two assays", Settings, Metric("rmse", higher=False), (Gate("mean"),), package="toys")
