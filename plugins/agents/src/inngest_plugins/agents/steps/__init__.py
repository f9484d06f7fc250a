"""The steps of an agent: their ids, stored results, errors and parallel groups."""
