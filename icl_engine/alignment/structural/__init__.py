"""Structural alignment: the answer is read by rules."""
