"""The command line ``sscc``; see :mod:`sscc.cli`."""
