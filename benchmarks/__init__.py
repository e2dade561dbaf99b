"""Measurements of the toolkit beside its peers."""
