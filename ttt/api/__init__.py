"""The front door for Python: what `import ttt` offers, see `ttt/__init__.py`."""
