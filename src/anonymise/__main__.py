"""``python -m anonymise``."""

import sys

from anonymise.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
