"""``python -m script.create_table`` runs ``anonymise.commands.create_table``."""

import sys

from anonymise.commands.create_table import main

if __name__ == "__main__":
    sys.exit(main())
