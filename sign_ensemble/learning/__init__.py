"""Arrays to one trained member."""
