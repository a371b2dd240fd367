"""How fast the API answers, with 90 days behind it."""
