"""The control API: HTTP on a Unix socket, and on TCP if configured.

A request passes the gate (host names, limits), is authenticated (``identity``), read strictly (``dependencies``,
``schemas``), handled by a router with its collaborators, and answered with a document of the schemas. An error is one
sentence in ``message`` (``problems``).
"""
