"""Radio front ends as sources and sinks of samples."""
