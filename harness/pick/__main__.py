"""`python -m harness.pick`, see `harness.pick.command`."""

import sys

from harness.pick.command import main

if __name__ == "__main__":
    sys.exit(main())
