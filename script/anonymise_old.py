"""``python -m script.anonymise_old`` runs ``anonymise.commands.anonymise_old``."""

import sys

from anonymise.commands.anonymise_old import main

if __name__ == "__main__":
    sys.exit(main())
