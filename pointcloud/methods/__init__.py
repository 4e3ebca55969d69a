"""Pretraining methods for clouds, and the table that names them."""
