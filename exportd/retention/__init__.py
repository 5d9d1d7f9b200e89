"""The station that forgets: which jobs' files the spool may drop (``policy``), and dropping them
(``sweeper``).
"""
