"""Members to an answer or a rejection: scores, the rule, calibration, confidence."""
