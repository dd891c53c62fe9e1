"""What runs inside a registered version: raw records in, decisions out, as a batch or over HTTP.

It does not know which version is the champion, nor how a version was trained.
"""
