"""Anonymisation over HTTP: the calls of BlurScene and sgblur, jobs, reports by the public; with the core's guarantees.

- `engine`: one model and threads; bytes in, anonymised bytes out, within limits.
- `web`: what every server here needs: tokens, bodies within limits, errors, headers, starting and stopping.
- `jobs`: many images at once, kept on disk until they are fetched.
- `app`: the routes.
"""
