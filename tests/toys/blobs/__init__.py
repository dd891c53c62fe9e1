"""The smallest pipeline: two numbers in, one of two classes out."""

from pipelines.core.pipeline import Gate, Metric, Pipeline, Settings

PIPELINE = Pipeline(
    name="blobs",
    title="Two measurements, two classes",
    settings=Settings,
    headline=Metric("roc_auc"),
    gates=(Gate("prevalence"),),
    package="toys",
)
