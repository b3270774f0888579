"""Derivations as Markdown with LaTeX between dollars."""
