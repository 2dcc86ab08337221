"""``python -m script.evaluate`` runs ``anonymise.commands.evaluate``."""

import sys

from anonymise.commands.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
