"""Application pipelines in Keras whose verdicts can be trusted."""

__version__ = "0.1.0"
