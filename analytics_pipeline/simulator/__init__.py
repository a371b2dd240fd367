"""A trading floor that never was: a believable stream of all built-in event types, for a first look.

Belongs here: the simulated market, orders, strategies, users and accounts (pure: a seeded random source and
the time come in from outside), the faults that real producers make, the pace, and the producer that sends
it.
Does not belong here: anything that the product needs when real producers are connected.
"""
