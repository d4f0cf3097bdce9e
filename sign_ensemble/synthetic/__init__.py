"""Built-in signers: rendered hands that sign, one idea per file from bones to pictures."""
