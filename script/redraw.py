"""``python -m script.redraw`` runs ``anonymise.commands.redraw``."""

import sys

from anonymise.commands.redraw import main

if __name__ == "__main__":
    sys.exit(main())
