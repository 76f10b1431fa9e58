"""The one driver of all request generators: it sends, caches, retries and counts."""
