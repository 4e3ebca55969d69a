"""Views of clouds: parameters drawn from a stream, then applied to a batch at once."""
