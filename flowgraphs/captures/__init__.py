"""Captures: recordings of samples in the SigMF format, and their replay through the receiver.

The format is that of the Signal Metadata Format, version 1.2: samples in ``NAME.sigmf-data``, and
beside them a JSON object in ``NAME.sigmf-meta`` that says how they were made and what is in them.
``docs/captures.md`` describes the keys of our own namespace, ``sscc``.
"""
