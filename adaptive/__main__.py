"""`python -m adaptive` is the command `adaptive`."""

from adaptive.cli import command

command()
