"""How much may be spent: checked before a call, kept in a store."""
