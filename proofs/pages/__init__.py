"""What is written from the results: the pages of the docs, and their plots."""
