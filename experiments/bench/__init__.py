"""The generation benchmark: engines and strategies side by side, in one run."""
