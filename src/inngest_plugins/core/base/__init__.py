"""What everything else stands on: errors, layers, keys, hook names, text, sync and async."""
