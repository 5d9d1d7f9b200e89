"""The station that takes parts to a destination.

``uploader.Delivery`` is one job's way to one destination: its files go up while they grow (``file_upload``,
in the pieces that ``plan`` says), nothing is visible until ``publish``. After a crash it goes on from the
spool (``spooled_part``). ``byte_limiter`` bounds what all deliveries hold in memory; ``sweeper`` aborts
what the dead left.
"""
