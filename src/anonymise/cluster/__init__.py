"""One run on many machines, on a Dask cluster: the leader decides and publishes, workers compute.

- `worker`: what a worker process does: it joins a run, and does images into a staging folder.
- `publishing`: the leader's side of staging: tokens, checks, and renaming into place.
- `members`: which workers there are, which of them may work.
- `leader`: gives images to workers, and takes the first result of each.
- `session`: a whole run on a cluster that is named by its address.

Dask makes calls at least once; that an image is published once is decided here.
"""
