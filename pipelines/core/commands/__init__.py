"""What a user types, one file for each command.

Nothing imports from here but the command line.
"""
