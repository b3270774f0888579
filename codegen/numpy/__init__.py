"""The NumPy target: a scheduled Program as one readable module that imports NumPy alone."""
