"""Maps of attention: who looks at whom, kept in a file, and drawn as a page, images, text, or in a notebook.

`maps` has the record, `page` the page, `tracing` (the one module that imports torch) makes maps of a real model's run.
A `Panel` is one map to be drawn; what draws panels knows nothing of the record.
"""

from __future__ import annotations
