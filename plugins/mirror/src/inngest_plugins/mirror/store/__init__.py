"""The database of the mirror: its tables, and how they are written and read."""
