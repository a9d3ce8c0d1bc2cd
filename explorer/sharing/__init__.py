"""What the people on one server share: places, results, jobs."""
