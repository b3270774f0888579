"""The LaTeX target: the derivation as a document."""
