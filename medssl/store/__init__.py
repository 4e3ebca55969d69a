"""The store: chunked int16 scans on one grid, read by windows."""
