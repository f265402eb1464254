"""Each step of the method as stages of a run folder: what it reads, what it writes, its key.

The rooms below know nothing of run folders; `rlrf4rec.loop` above knows nothing of files.
"""
