"""What ``mixbt-compare`` is made of, one file for each step.

`plan` says which runs a comparison means, and `running` starts them. Each is a process of
`one_run`, in which an `evaluator` measures with the probes of `measures` on the `images`. `table`
and `figures` show what came out.
"""
