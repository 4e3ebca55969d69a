"""Finding scans that repeat each other, and choosing which to train on. Nothing here deletes: reduction marks."""
