"""What kinds of data there are, and what is learned of them: the contracts that verbs ask, and the table."""
