"""Pictures of nets, from below: `words` and `paths`, `traffic`, `scene` (what is to be seen), then one module for each form."""
