"""Library: adapter versions on disk, pinned by digest, served from read-only copies.

Layout: `models/base/<base>/` and `models/adapters/<client>/<task>-v<semver>/`. A version's
folder holds the served files, `training.json` (how it was made, hash of its data) and
`evals/` (results). The digest covers the served files only, so that later evals can be
added beside an immutable version.
"""
