"""Metrics with stated definitions, intervals, paired tests and protocols."""
