"""Prometheus metrics of a race: the resources that it has used, and its progress.

All counts are computed from the facts in the store at scrape time, so that a restarted controller,
or a second one, neither loses nor double-counts anything.
"""
