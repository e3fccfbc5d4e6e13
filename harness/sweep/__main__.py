"""`python -m harness.sweep FILE`: runs a search space."""

import sys

from harness.sweep.command import main

if __name__ == "__main__":
    sys.exit(main())
