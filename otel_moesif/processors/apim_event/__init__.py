"""``apim_event``: spans and access logs of any gateway become one analytics event per API call."""
