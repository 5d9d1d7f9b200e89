"""Where exports are delivered: one small contract (``store``), and its implementations.

``layout`` decides what objects are called. ``directory_store`` delivers to a directory; ``memory_store``
keeps everything in memory, for tests and the demo. Every store passes the same conformance suite.
"""
