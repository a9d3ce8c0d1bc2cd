"""What stands between the server and strangers."""
