"""Results as people look at them: console tables, plots, the report page."""
