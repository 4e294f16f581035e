"""A thin factory: holds entries, publishes the payload, submits pilots to a site's HTCondor pool, takes their reports.

Start it with ``pilot-factory run --config factory.yaml``; see ``entries`` for the file.
"""
