"""Results to what a person looks at: tables, plots, one page."""
