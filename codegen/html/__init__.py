"""Derivations as one HTML page."""
