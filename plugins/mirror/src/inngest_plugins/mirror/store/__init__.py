"""The mirror's database: its tables, reads, writes, and the comparison with the engine."""
