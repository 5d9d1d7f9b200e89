"""Writes the statements that load a run into a database and merge it there: the loader kit.

``kit`` writes a run's script in one of the dialects. The other modules say how a database loads files, and which type a
field gets.
"""
