"""One thread at a time reads the header of a NumPy file.

NumPy reads it with ``ast.literal_eval``, and in CPython 3.11 and 3.12 two threads that do so at once can end in "AST
constructor recursion depth mismatch" (https://github.com/python/cpython/issues/106905). Loaders read in many threads.
"""

from __future__ import annotations

from threading import Lock

__all__ = ["ARRAY_HEADERS"]

ARRAY_HEADERS = Lock()  # held around np.load, and around taking an array out of an .npz
