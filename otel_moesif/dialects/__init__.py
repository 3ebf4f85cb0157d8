"""How each gateway spells an API call: one readable table per gateway."""
