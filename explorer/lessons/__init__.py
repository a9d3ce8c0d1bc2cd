"""What the app teaches: the source with notes, claims, comparisons."""
