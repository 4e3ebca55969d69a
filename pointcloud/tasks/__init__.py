"""Fine-tuning on clouds: a class for each, or a part for each point."""
