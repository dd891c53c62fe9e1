"""The smallest pipeline: two numbers in, one of two classes out."""

from pipelines.core.contract import Gate, Metric, Pipeline, Settings

PIPELINE = Pipeline("blobs", "Two clouds of points", Settings, Metric("roc_auc"), (Gate("prevalence"),), package="toys")
