"""What stands between DSPy and a base model: how fields are written, the adapter, and engines as models."""
