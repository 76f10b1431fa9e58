"""O, the output alignment: identity, structural, statistical (and later linear) steps, chained by `chain.py`."""
