"""What a report is made of: labels, tables, plots, verdicts and the pages that hold them."""
