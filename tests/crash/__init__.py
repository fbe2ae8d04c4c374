"""What the crash proofs are made of: a small world to publish in, a tracer that stops at system calls, and a disk that
forgets what was not synced."""
