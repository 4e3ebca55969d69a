"""Published weights: read without executing anything, recognised by names and shapes, renamed, proved, reported."""
