"""Cores, memory and control groups."""
