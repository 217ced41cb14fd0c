"""`python -m qpud`: the command line without an installed script."""

import sys

from qpud.cli import main

if __name__ == "__main__":
    sys.exit(main())
