"""Copies among point clouds: what is kept of each, what proposes a pair, and what decides."""
