"""The agent: one process per member that alone writes the store and talks to the other members.

``main`` starts it, ``process`` is its loop, ``executor`` carries out what the protocol's engine decides, ``socket``
serves the workers of the machine, ``inbox`` takes what the network brings. ``control`` is how tools ask it something,
``supervise`` runs it together with the application.
"""
