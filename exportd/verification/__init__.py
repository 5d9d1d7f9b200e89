"""Checks what lies at a destination against its manifests, without the database.

``findings`` says what can be wrong and what to do, ``contents`` looks into an object, ``verifier`` walks through all.
"""
