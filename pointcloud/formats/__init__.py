"""Files to clouds, one module a format."""
