"""What names alone say: words of the field, whose scan a file is, and which label belongs to which scan."""
