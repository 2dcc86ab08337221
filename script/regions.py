"""``python -m script.regions`` runs ``anonymise.commands.regions``."""

import sys

from anonymise.commands.regions import main

if __name__ == "__main__":
    sys.exit(main())
