"""What benchmarks share: commands, results, tables, heads, rivals."""
