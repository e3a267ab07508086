"""How text is read as each type; `text_casts` says which forms are accepted and why there are two paths."""
