"""Records → rows of a database: Oracle Spatial, PostGIS, or a GeoPackage file. Knows no images.

- `table`: a table as its file describes it; `formatters` and `geometry` make its values.
- `client`: `DatabaseClient`, over one protocol (`backend`) that `geopackage`, `postgis` and `oracle` speak.
- `settings`: ``db_config.yml``, which says where the database is.
- `outbox`: rows that wait in the journal; `sender` sends them.

Importing this loads no database driver.
"""

from anonymise.config import DatabaseOptions

__all__ = ["DatabaseOptions"]
