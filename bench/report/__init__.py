"""The report of rows: its plots and tables, and the one HTML page that holds them."""
