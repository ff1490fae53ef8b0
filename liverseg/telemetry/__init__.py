"""What a race has used and where it stands, as Prometheus metrics; the facts are the only source.

Whatever is counted is computed from the store at scrape time, so that a restarted controller, or a
second one, neither loses nor doubles anything.
"""
