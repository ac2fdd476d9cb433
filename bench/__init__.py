"""Benchmarks: figures as ratios of one run, never assertions on seconds in a test."""
