"""How the house stands: its rooms and floors from the imports, and the files of one run."""
