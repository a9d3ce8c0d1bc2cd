"""A network in forms that work without this package."""
