"""``redact``: what must not leave is masked, hashed or cut, in whatever part of an event it stands."""
