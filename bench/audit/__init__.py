"""The audit of the checks: faults planted in small clean data, one by one, and what the checks say of each.

One file a domain makes the clean data, writes them as people's files, and lists the faults; `trained` has the faults
that show in a trained network alone. None of it knows how a check works: what counts is the sentence a user reads.
"""
