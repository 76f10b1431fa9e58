"""Data: rows of files or lists become examples."""
