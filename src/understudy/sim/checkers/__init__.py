"""What must hold, each in an observer of its own that looks on while a history runs and keeps what it needs to judge.

``register``   one attribute's values: nothing older than what was answered or shown
``ledger``     one session, as its browser was promised it
``entries``    what every store may hold: one primary in a reign, dots and tombstones for good, limits
``copies``     an answer that says "protected" is on as many machines as it says
``answers``    nothing is said before it is stored, nor what was to be refused, nor anything new by a minority
``commits``    a commit is applied once, over what its request saw, and every copy remembers its id
``uses``       a change is a use, and no copy invents one
``reigns``     epochs, promises, leases and promotions are what others may rely on
``outboxes``   what is under way is remembered for as long as it has to be
``quiet``      after the faults: one primary, equal backups where they belong, nothing left under way
"""
