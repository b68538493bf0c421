"""The download, conversion, checks and fingerprints of data sets and their spans."""
