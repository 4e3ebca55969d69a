"""The verbs as functions, one module a verb: settings and paths in, a frozen result out; they print nothing.

A workflow is a typed function that returns a `Result` of its own (`result.py`): the files that it wrote, figures, and
the command that follows, as data. While it works it tells the listener (`events.py`): messages, warnings, tables,
progress, and at the end what was written. It never prints and never exits; what goes wrong is an error of
`medssl.errors`. The command line listens on the terminal; from Python the log of ``medssl`` does.
"""
