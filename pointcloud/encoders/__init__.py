"""Encoders of clouds behind one contract, and the table that names them."""
