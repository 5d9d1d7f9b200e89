"""What lies at a destination, as its consumers find it: manifests and objects, without the database.

``place`` is what was found, ``reader`` finds it. ``verification``, ``loaders`` and ``replay`` stand on it.
"""
