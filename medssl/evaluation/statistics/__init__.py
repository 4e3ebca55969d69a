"""What may be said of scores: one interval, one p value, one comparison, one wording."""
