"""What ships events to a backend."""
