"""The journal: the state of runs, in memory or in one SQLite file."""
