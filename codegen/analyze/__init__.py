"""Vanishing and exploding gradients of one model: formulas, bounds, and what is measured with its generated code."""
