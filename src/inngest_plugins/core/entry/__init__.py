"""Where the SDK's calls and sends enter the core."""
