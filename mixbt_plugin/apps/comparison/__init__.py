"""What ``mixbt-compare`` is made of, one file for each step.

`arms` composes and checks what is compared, `plan` says which runs that means, and `running` starts
them. Each is a process of `one_run`, in which an `evaluator` measures with the probes of `measures`
on the `images`. `table` and `figures` show what came out.
"""

from importlib.util import find_spec

from mixbt_plugin.settings import MissingPackageError

for package in ("matplotlib", "pandas", "scipy"):
    if find_spec(package) is None:
        raise MissingPackageError(f"a comparison needs {package}: pip install {package}.")
