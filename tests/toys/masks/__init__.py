"""A class for each pixel: dense labels, of which only counts are kept."""

from pipelines.core.contract import Gate, Metric, Pipeline, Settings

PIPELINE = Pipeline("masks", "Squares in noise", Settings, Metric("mean_iou"), (Gate("background"),), package="toys")
