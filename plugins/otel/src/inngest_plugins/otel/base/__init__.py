"""What nothing else of the plugin is below: ids, names, spans rewritten, requests' bodies."""
