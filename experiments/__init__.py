"""Sweeps, the scripts that made the bundled model, benchmarks."""
