"""Records, their arrays, their sides and the leaks between these.

It does not know where records came from, nor what a network is.
"""
