"""Benchmarks: each script prints one table, side by side in one run. See README.md."""
