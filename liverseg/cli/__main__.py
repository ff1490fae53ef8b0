"""`python -m liverseg.cli`, which is how the controller starts trainers."""

from liverseg.cli import main

main()
