"""Task files: read with line numbers, checked strictly, turned into a pipeline."""
