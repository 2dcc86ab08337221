"""``python -m script.insert_geom_metadata`` runs ``anonymise.commands.insert_geom_metadata``."""

import sys

from anonymise.commands.insert_geom_metadata import main

if __name__ == "__main__":
    sys.exit(main())
