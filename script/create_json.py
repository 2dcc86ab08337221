"""``python -m script.create_json`` runs ``anonymise.commands.create_json``."""

import sys

from anonymise.commands.create_json import main

if __name__ == "__main__":
    sys.exit(main())
