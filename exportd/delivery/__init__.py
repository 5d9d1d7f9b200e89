"""Takes a job's parts to its destinations.

``job_delivery`` delivers a job to all its destinations, ``deliverer`` to one of them. There, a ``transfer`` brings the
files up while they grow, each as a ``file_upload``; nothing is visible until it is published, and the manifest comes
last. After a crash the transfer goes on from the spool and from the uploads that ``tables`` remember. ``byte_limiter``
bounds what all transfers hold in memory; the ``cleaner`` removes what jobs left that ended halfway.
"""
