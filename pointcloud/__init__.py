"""Point clouds: formats, primitives, views, encoders, methods and tasks."""
