"""What domains of one kind share: how outputs become scores, measures and decisions.

It does not know how a network is trained, nor where a run is stored.
"""
