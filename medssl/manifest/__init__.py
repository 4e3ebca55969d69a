"""The manifest: one row a scan, and everything that is checked and split from it."""
