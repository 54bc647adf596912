"""
Benchmarks: what KNHK costs, beside what it promises and beside what other engines need.

- `__main__`: ``python -m benchmarks [NAME...] [--json] [--quick] [--page FILE]``, and ``python -m benchmarks peers``.
- `registry`: the modules, a line each, and the promises with the benchmarks that judge them.
- `measure`: figures, and how they are taken; `calibration`, `machine`: what the machine can do at the moment, and which it is.
- `kernel`, `engine`, `stores`: the benchmarks; `nets`: the specifications they run.
- `page`: the documentation page of a run.
- `peers`: other engines, each in an environment and a process of its own.

A benchmark is a function that yields `measure.Figure`s and takes the `measure.Scale` or nothing; its docstring is its method.
A module of them has a table ``BENCHMARKS``, name -> function.
"""
