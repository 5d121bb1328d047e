"""The report: one HTML file that opens anywhere, offline, with pictures, a sentence under each, and the numbers behind them."""
