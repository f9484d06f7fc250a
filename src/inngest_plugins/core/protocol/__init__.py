"""What plugins are written against: `Plugin`, `Hooks`, and opening what was sealed."""
