"""Measurements that pair the app with a peer."""
