"""Train and evaluate a network on the available device: the middle of the line.

It does not know MLflow: nothing of a trial is stored here.
"""
