"""From the data folder to prepared cases in the store."""
