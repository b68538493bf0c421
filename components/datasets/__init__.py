"""Data sets: downloaded, converted, checked and fingerprinted; spans of them."""
