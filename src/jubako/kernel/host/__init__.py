"""What `jubako doctor` looks at: one module per subject, each with the facts, why they matter, and the cures."""
