"""``python -m script.sheet`` runs ``anonymise.commands.sheet``."""

import sys

from anonymise.commands.sheet import main

if __name__ == "__main__":
    sys.exit(main())
