"""``python -m script.corrections`` runs ``anonymise.commands.corrections``."""

import sys

from anonymise.commands.corrections import main

if __name__ == "__main__":
    sys.exit(main())
