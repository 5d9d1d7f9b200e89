"""The control API: HTTP on a Unix socket, and on TCP if configured.

A request passes the gate (names, limits), is tied to somebody (``authenticator``), read strictly (``request_reader``,
``schemas``), done by a table, and answered in the words of the schemas. What goes wrong leaves as one sentence in
``message`` (``problems``).
"""
