"""From records to a trained and evaluated network, on the device that there is; the middle of the line.

It does not know MLflow: nothing of a trial is stored here.
"""
