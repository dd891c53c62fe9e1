"""What is decided about a run and written for its reviewer: compatibility, promotion, verdict, record.

It does not know the command line.
"""
