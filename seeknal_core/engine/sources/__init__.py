"""Reading the files that sources name: one module for each file type.

`load.read_files` is the loop around them all: it checks the disk's free space and reads
again what changed meanwhile. Each module has a function ``store(reading)``.
"""
