"""Prometheus' node exporter beside the jobs of a pilot."""
