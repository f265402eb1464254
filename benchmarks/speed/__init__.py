"""What `benchmarks/bench.py` measures: one file a kind of work, each against what one would use
instead."""
