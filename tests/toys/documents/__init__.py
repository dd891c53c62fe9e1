"""Several tags a document, judged by a figure that is no mean over documents."""

from pipelines.core.contract import Gate, Metric, Pipeline, Settings

PIPELINE = Pipeline("documents", "Tags of texts", Settings, Metric("micro_f1"), (Gate("every_tag"),), package="toys")
