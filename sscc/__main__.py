"""``python -m sscc``: the same as the command ``sscc``."""

from sscc.cli import main

main()
