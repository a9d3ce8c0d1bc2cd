"""A server under attack, and other people on it."""
