"""Where exports are delivered: one small contract (``store``), and its implementations.

Each kind of destination has a folder of its own; ``opener`` builds a store from its description. Every store passes the
same conformance suite. ``layout`` names objects, ``location`` is the place that a person names.
"""
