"""Chains of verbs as functions: `auto`, a folder of scans the whole way, and `demo`, which shows it."""
