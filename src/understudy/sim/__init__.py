"""A whole cluster in one thread from one seed: the production engine and executor over memory stores and a simulated
network, random faults, users, and separate observers that check what must hold.
"""
