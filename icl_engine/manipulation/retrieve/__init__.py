"""Retrievers: which demonstrations to show for an example. One file each."""
