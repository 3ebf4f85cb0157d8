"""Local stand-in for the Moesif collector API."""
