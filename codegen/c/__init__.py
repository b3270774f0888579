"""The C target: a C file, its header, and a Python module over them."""
