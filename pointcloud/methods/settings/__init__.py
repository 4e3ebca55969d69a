"""Settings of methods, one module a module of theirs: read to show and check settings, so none needs torch."""
