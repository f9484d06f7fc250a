"""The plugin's foundations: ids, attribute names, options, providers, rewritten spans."""
