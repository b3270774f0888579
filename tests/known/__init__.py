"""Models as their sources write them, and what a derivation says of them: published results are held against both."""
