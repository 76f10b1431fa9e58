"""f, the frozen model: one file a provider, and the ladder that reads label scores from any of them.

The only code that talks to a network or loads weights.
"""
