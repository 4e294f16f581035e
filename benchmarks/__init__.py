"""The project's own measurements: `python benchmarks/run.py` writes `build/bench/NAME.json` and prints one table."""
