"""Downstream tasks: segmentation, and carrying a pretrained encoder over to it."""
