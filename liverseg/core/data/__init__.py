"""Cases, the data set that they make up, and its split."""
