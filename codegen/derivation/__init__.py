"""Derivations: what was derived (``provenance``), told as a document of prose and formulas (``narrative``), entry by
entry or with matrices.

Nothing is derived here: every formula is an equation of the program that is compiled, or follows from some by putting one into
another (``closed``, ``compositions``).
"""
