"""Lets `python -m icl_align` be `icl-align`."""

from icl_align.cli import main

main()
