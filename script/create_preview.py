"""``python -m script.create_preview`` runs ``anonymise.commands.create_preview``."""

import sys

from anonymise.commands.create_preview import main

if __name__ == "__main__":
    sys.exit(main())
