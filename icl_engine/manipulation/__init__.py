"""I, the input manipulation: render ∘ select. A retriever is one file in `retrieve/` and one line in the registry."""
