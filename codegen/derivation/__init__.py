"""Derivations: what was derived (``provenance``), told as a document of prose and formulas (``narrative``), in index form.

Nothing is derived here: every formula is an equation of the program that is compiled.
"""
