"""The ways to train a model: one file each, joined in `registry.py`."""
