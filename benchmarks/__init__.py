"""Benchmarks: generated gradient code beside hand-written NumPy and the libraries people use."""
