"""Experiments of the studies as functions: settings in, runs, a summary and a report out.

`compare.run` trains one network under several precisions and compares them; `bench_step.run` measures a
training step, layer by layer, against PyTorch's where it is installed.
"""
