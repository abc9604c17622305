"""Emperorctl beside real uWSGI and supervisord: the same do-nothing vassals, the same events, one table.

Run by `make bench` and `make scale` (`python -m benchmarks`). Nothing in here is installed or imported by the product.
"""
