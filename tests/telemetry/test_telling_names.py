"""No name of a case or a patient is in any series, and a large race has few of them."""
