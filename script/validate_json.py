"""``python -m script.validate_json`` runs ``anonymise.commands.validate_json``."""

import sys

from anonymise.commands.validate_json import main

if __name__ == "__main__":
    sys.exit(main())
