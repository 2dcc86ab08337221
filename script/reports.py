"""``python -m script.reports`` runs ``anonymise.commands.reports``."""

import sys

from anonymise.commands.reports import main

if __name__ == "__main__":
    sys.exit(main())
