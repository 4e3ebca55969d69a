"""One module a verb, and the command line."""
