"""Budgets: checked before each model call, and kept in a store that runs share."""
