"""The plugin's foundations: options, traces of runs, privacy rules, flushing."""
