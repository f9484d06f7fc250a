"""Options, traces of runs, and what may leave the process."""
