"""Reading file trees made by overlays: whiteout forms, changes, attributes."""
