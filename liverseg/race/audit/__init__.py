"""Checks a race's facts against each other, as if anyone had edited them (`study replay`)."""
