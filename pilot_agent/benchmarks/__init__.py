"""Benchmarks: short, bounded, and never a reason to refuse a node."""
