"""What is shown of a race: the pages of its rungs and the report."""
