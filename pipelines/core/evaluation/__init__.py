"""Metrics, bootstrap intervals, calibration and drift: statistics of arrays.

It does not know records, networks or runs.
"""
