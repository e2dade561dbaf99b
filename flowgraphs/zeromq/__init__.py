"""Samples over ZeroMQ in GNU Radio's wire format."""
