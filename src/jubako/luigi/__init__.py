"""Luigi's names for existing pipelines: after `install()`, `import luigi` and every public `luigi.*` is jubako's.

    import jubako.luigi
    jubako.luigi.install()
    import luigi                        # also what a pipeline imports later, or anything it imports

`python -m jubako.luigi` and `jubako luigi` do that, and then take the `luigi` command line. Behaviour is that of
`jubako.flow`; here are names, texts, settings files and the command line. What is left out is refused by name
(`left_out`).
"""

from __future__ import annotations

from jubako.luigi.importing import install, uninstall

__all__ = ["install", "uninstall"]
