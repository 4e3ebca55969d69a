"""One file a pretraining method, and the table that names them."""
