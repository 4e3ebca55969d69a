"""Encoders behind one contract, and the table that names them."""
