"""Members to an answer or a refusal."""
