"""The loop IR: scheduled equations as loops over entries, with every verdict on the way; what the C target prints.

    Schedule -> loops (nests.py) -> products (products.py) -> fused (fuse.py) -> checked (check.py) -> a memory plan (memory.py)
"""
