"""The steps of `benchmarks/gpu.py`, by what they look at."""
