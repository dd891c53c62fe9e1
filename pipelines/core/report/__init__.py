"""Figures, tables and the HTML page that a reviewer sees.

It does not know what is decided about a run.
"""
