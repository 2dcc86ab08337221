"""``python -m anonymise``."""

import sys

from anonymise.cli import main

if __name__ == "__main__":
    sys.exit(main())
