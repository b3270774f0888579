"""Derivations as plain text."""
