"""The protocol: how the members of a cluster keep each session in two places and never show anybody an older state.

This page is the theory of operation. Read it before the code; each section names the file that it describes.

The shape
    ``Engine.handle(event, now_ms)`` takes one event and gives a list of commands. It reads no clock, no store and no
    socket, and keeps no entries (of peers' answers to an open question it keeps the deltas, until it is closed). What
    it needs of an entry it asks for (``Read``, ``Scan``); what shall become of one it names as a pure function of
    ``model`` (``Change``), which the executor applies inside the store's transaction.
    The results come back as events (``Looked``, ``Scanned``, ``Changed``) before the next command is carried out. All
    events of a turn share one transaction, and messages and answers leave only when that is durable: nobody is told
    of something that a crash could take back. A caller's loop is these lines::

        with store.write() as transaction:
            for event in arrived:
                carry_out(engine.handle(event, now_ms), transaction)  # and feed what results back to handle
            carry_out(engine.flush(), transaction)
        send_and_reply()
        wait_until(engine.deadline_ms())  # then handle(Ticked()), or earlier whatever arrives

Roles and epochs
    A member is PRIMARY, BACKUP or PROXY for a session. Only the primary commits. A backup holds everything that the
    primary does; a proxy holds no data and knows who does. An *epoch* (reign, chooser, list number) totally orders
    who may be primary: a promotion or a hand-over raises the reign, a new backup list the list number, and the
    chooser, a hash of the promoting member's name and incarnation, makes two promotions of one reign differ. Epochs
    decide roles and nothing else. Data is decided by causality alone: each value has a dot (incarnation, number),
    each copy a context of what it has seen, and merging (``model.delta``) drops a value only when one side has seen
    it and carries it no more. So every message may be lost, repeated, delayed or reordered. Deletion of a session is
    a tombstone and wins over everything; made by a member that was primary no more, it is acknowledged when the one
    that is has it. Expiry leaves no trace.

The flight of a change (``serve``, ``replicate``)
    A commit arrives as ``Requested`` and becomes a job. It names the values that its request saw where it writes; if
    the entry holds others it is OUTDATED, and only a worker that still waits asks again over those: a commit that
    outlives its worker undoes nothing. ``DoCommit`` gives it the store's next number and an outbox
    row. If the entry is not primary here, the job is passed on to the member that is closer. Else a *flight* begins:
    the backups are sent the delta to what each last acknowledged (the whole entry where that is not remembered; a
    holder that lacks the base says so), and answer with the context that they now have. When as many holders as the
    manager wants copies have a number, its outbox row goes and whoever waits for it is answered "protected". A backup
    that is silent for ``backup_timeout_ms`` gets company: another one is chosen in parallel. When nobody can take the
    copy, or ``commit_timeout_ms`` is over, the answer says "not protected", and the store says so before it leaves
    (the row is marked, or the list of backups is short): a later life must know which changes users were told of. A
    read that shows a change in flight waits for it as its writer does.

The end of a session (``endings``)
    Who was told that a session has ended must find it alive nowhere. So nobody is told before the request that ended
    it: at the primary others wait for the tombstone's flight. All members hear of the end at once, and one of them
    that holds the tombstone may tell of it: who takes the session over asks that one. Where all members read in place
    it may not: there a tombstone is *unconfirmed* until the primary says that all have it; until then it is asked, and
    where it is silent, all others are told and the time of a lease is waited for. An end that no second member has
    taken in time is answered as not protected and is an end all the same; the tombstone is sent on until the holders
    have it. A minority under ``partition = "refuse"`` tells nobody: the other side may be showing the session.

Who holds it (``placement``, ``locate``)
    A copy goes to another zone than the primary's where there is one. With ``round-robin`` the members take turns, and
    everybody is told where each session is and keeps a proxy entry. With ``rendezvous`` the backup follows from key and
    names: nobody is told and no proxy is kept; a member that holds nothing asks whom the cookie names, then whom the
    key gives. Either way, when that fails, it asks all. That a member holds nothing it says of the place that the asker
    knew: where a later one becomes known it is asked again, for it may have been handed the session since.
    A session begins where its first request is. A part of a dictionary, whose key many know, begins at the member that
    its key gives (``create``), so that one decides who was first.

Make before break (``replicate``, ``entrust``)
    A holder is given up only by ``Release``, sent when every holder of the new list has everything; until then the
    old ones stay listed. While anything of the session is on its way that takes two rounds: the new holder beside the
    old ones, then the list without those. A session at rest takes one, in messages of many sessions: its new holders
    are entrusted with what they lack under the list as it will be, and that is stored here when all of them have said
    that they have everything and the entry is still what they were given. Until then only they know of the new list. A
    primary whose life ends before it has stored it finds that out in a comparison, and asks for a higher reign.
    A member that learns that it is no longer listed keeps its copy until the Release comes, and
    asks after it if it does not come. (One that has missed both keeps a copy until the patrol finds it, which harms
    nobody: before it could promote itself it would ask.)

Moves (``move``)
    The primaryship follows the requests. A member that serves a session from elsewhere ``move_after`` times in a row is
    made a backup, if it is none; when every holder has everything and the older one is released, the primary hands
    over: one change makes it a backup of the other under the next reign, and the copy of that change makes the other
    one primary. Should it not arrive, the old primary is a holder like any other, and asks. Who has
    promised that reign to another does not take it: whoever hands over has asked nobody, and may have been replaced
    while it stood still. Requests meanwhile go back and forth for a round trip. Members that take turns move nothing,
    and a session rests for a while after each move.

Leases (``members``)
    Every third of ``lease_ms`` each member sends each other one a heartbeat. Who answers it grants a lease: until
    ``lease_ms`` after the heartbeat was *sent* it will acknowledge no write as a successor in the sender's sessions.
    Sender and granter count on their own clocks from the same instant, so neither needs the other's time. A worker
    serves an entry in place only while all backups of that entry have granted leases that still run; else it asks
    the agent, which asks the backups. So a paused, cut-off or agentless machine shows nothing that was overwritten
    elsewhere. The promise is a little longer than the lease, for clocks of slightly different rates, and a new life
    keeps the promises that its earlier one may have given.
    A lease is for all sessions of a member, but a session may be promised to somebody else, or taken, while a cut lasts
    that is too short for anybody to be called dead. So every answer to a heartbeat tells a *fence*: how often that has
    happened to sessions of the receiver. A lease behind a fence counts only when the receiver has compared everything
    since; in a comparison the answerer also tells what it has promised, and a primary that is outbid shows nothing in
    place until it has asked in its turn.
    That a member is alive is shown by its answers to heartbeats, not by its words: where only one direction of a link
    works nobody waits for it. One that has answered none for ``lease_ms`` is suspect: no inquiry or comparison waits
    for it, and it gets no new copies. It is dead when the network says so, or after ``dead_ms`` without a word; only
    then is it replaced.

Claims (``route``)
    No request waits until a member is called dead. Where the primary is gone or suspect, or has left this request
    without an answer for ``claim_ms`` and two heartbeats too, the request goes to the first living holder, with the
    name of the primary that it is claimed from. That one relays to the primary while it hears it itself, and otherwise
    asks, at once; it never passes a claim back, for lists may differ. Where one member alone does not hear a primary,
    the others say so, and requests go through them. A link that comes and goes is given a little more time at each
    return, so that primaryships do not bounce for ever.

Read leases (``readers``)
    Under DeltaManager every member holds everything, and shows in place what its copy holds while a *read lease* of the
    session's primary runs: that member's promise to acknowledge no change before the reader has it, or its lease is
    over. It rides on the answers to heartbeats and is counted like the other lease. Only a *current* member gets one:
    it was brought all sessions of the granter since it was found, and has acknowledged all that was acknowledged since.
    So a silent member is waited for until its lease is over, is given no new one, and catches up before it gets one;
    and no holder is released before, nor given up when it is lost.
    Three things more. A copy that has just taken in a change is *unconfirmed* until the primary says (``Confirm``) that
    all readers have it: nobody sees it here and misses it there. Who has promised another the next reign shows nothing
    in place. And who takes a session over waits for all its readers for the time of one lease, as if the leases were
    its own, for they were given by the primary before.

Ask, promise, promote (``inquire``)
    A holder whose primary is gone does not promote itself at once. It asks every reachable member about the key and
    names the next reign. Each answers what it holds beyond the asker, with the promise to acknowledge nothing for
    this key under a lower reign; or that it is the primary, or hears it, and then nobody promotes and requests are
    relayed through the one that answered; or that it knows a higher epoch or promise, and the asker tries again above
    that. The asker waits for each until it answers or is suspect (who is heard again before the end is asked again; and
    where nobody answers at all, suspect members get the time of a lease: it may be us who were cut off), merges what
    came, and promotes itself. It serves
    reads at once; its promotion's flight acknowledges nothing until the leases that anybody granted to the old primary
    have run out (and to any other holder that has not promised: it may be primary unknown to us), so a first write may
    wait for one lease from the primary's last heartbeat, and nobody's older answer comes after it. A new life, which
    does not know whether it was promoted just before its end, waits as long with every session that was taken over.
    A primary that is refused for a promise asks in its turn. There is no message "take over": a request that claims is
    the reason, and sessions without requests are swept after ``sweep_delay_ms``, counted from the last loss.

Comparison (``compare``)
    A new life does not trust its store. It names what it holds, in batches, by epoch and context, and each peer
    answers where it is ahead; until its turn has come no entry may be served in place, and a request for one has it
    compared at once. Where another is ahead, this member steps down: if every change of its own that the successor
    lacks was answered to nobody (an unmarked outbox row), it takes the successor's entry whole and the workers'
    repeats bring those changes, applied once by id; else it merges and passes on what the successor lacks
    (``Contribute``), and keeps its copy until that is acknowledged: by the new primary, when as many others as wanted
    have everything, so that what two machines held is never on one alone. Until it has stepped down it gives away
    nothing of what it did in that reign: those changes would be there twice. Where somebody knows a later epoch whose
    holders are all gone, the newest data is asked about and promoted like any other.

Partitions (``serve``, ``inquire``)
    Under ``partition = "serve"`` nothing special is done: each side promotes what it needs, and when the cut is over
    the members compare, the lower epoch steps down and contributes, and the merge keeps what neither side has seen of
    the other's, as values side by side, which is told. Under ``"refuse"`` a member that is answered by fewer than a
    majority of ``members_expected`` makes, acknowledges and promotes nothing, and calls nothing lost or unknown; it
    shows an entry only while all its backups vouch for it, and exchanges none of them. A cut is noticed within a lease.

Away for too long (``absence``)
    Tombstones are kept for ``forget_ms``. A member that was away for longer may hold what was ended meanwhile, and
    nobody could tell. It answers no heartbeat, so that nobody counts on it; when it hears one from a member whose
    memory is longer than ``forget_ms``, it discards its store and joins as an empty member. Where all have been away,
    nothing was forgotten by anybody else.

Doubt after standing still (``join``)
    A process that was stopped for longer than two leases first handles frames that lay waiting and only then the news
    that others have replaced it. So after such a gap a member doubts everything: requests for sessions that it holds
    wait, and none is promoted for a loss, until each member that it knew has answered a heartbeat sent since, or
    ``cold_start_ms`` is over; then it compares as after a start. The network of such a machine takes all others for
    lost, somewhat after it has gone on: who has answered since is believed to be there until it is silent, and who
    loses all others before it has compared waits again; alone it would show what lay here before. A forwarded commit
    that was long under way is not applied at all: its id may have left the entry's memory of recent commits, and it may
    have been done elsewhere.

Places (``places``)
    Where a session is, is announced to all when that changes, in batches. Who finds a peer asks it for all its places,
    page by page: the next when this one is stored, again from there when no answer comes. So a join cut in the middle
    goes on where it was, two at once do not know of each other, and nobody is flooded.

The patrol (``patrol``, ``shares``)
    All of this may have holes: a lost Release, an announcement that never came, a store that lost a page. So each
    primary walks over its sessions, a page of keys at a time, and tells every member how many of them that one should
    know and the sum of their hashes. Who has something else in that range asks for the places, and compares what it
    holds with the sender; what the primary does not know any more is forgotten, or, if it was used since, asked about
    and promoted. The same walk moves backups to where they should be: where the key says, into another zone, or from a
    member that holds many of ours to one that holds few. It begins anew when members come or go.

Nobody left to ask
    A member that loses more others at once than copies would survive, and at least as many as are left with it, cannot
    tell their death from its own isolation. For ``lost_after_ms`` it calls nothing lost and nothing unknown: requests
    are answered "unavailable", and the cookie stays. Then it gives up, because members can really be lost together.

Sweeps (``sweep``)
    Work on many sessions is a ``Scan`` of one of the store's lists, a bounded number of entries each, between the
    requests, and goes on only when most of what it began is finished: what names a lost member (promote, choose a
    backup, drop a proxy whose holders are all gone), what lacks a backup, what is due to expire, what a leaving member
    hands over. The first living holder takes over what a lost member led; the others look a second time, because it may
    have been released with words that were lost. Only a primary expires a session. A backup whose time seems over asks;
    it never decides. (Where its primary knows nothing of it, that has decided.) One that was used after its primary had
    expired it says so, and is promoted. Uses are told in batches, but at once where a
    session may be about to expire. (Times travel as ages, and a receiver adds how long they were under way, which
    heartbeats have taught it: what lay before a member that stood still is no news of use.)

Reading order
    ``messages``   everything that members say to each other; ``worker_messages``: a worker and its agent
    ``commands``   events in, commands out; beside them ``facts``, for people, and ``settings``
    ``engine``     the table from event to handler
    ``members``    who is alive; leases; where the next copy goes (``placement``)
    ``serve``      a request (``job``) from its arrival to its answer
    ``route``      where it goes next; ``locate``: where nobody knows it
    ``create``     where the first entry of a key is made
    ``endings``    when it may be told that its session has ended
    ``replicate``  a change from the primary to its backups
    ``entrust``    new holders for sessions at rest, many in a message
    ``refusal``    when a holder refuses
    ``readers``    who may show it in place beside the primary
    ``inquire``    ask, promise, promote
    ``compare``    who knows better
    ``move``       the primaryship follows the requests
    ``sweep``      work on many sessions
    ``places``     who knows where sessions are
    ``patrol``     what nothing else has noticed; where backups would be better (``shares``)
    ``agreement``  members that are configured otherwise
    ``lives``      agents that are over for long leave the contexts
    ``absence``    a store that was away for too long
    ``join``       from a start, or a pause, to ready
    ``changes``    which pure function of ``model`` each ``Change`` names; ``local``: those that take no other member
    ``core``       what the ``parts`` share

What is absent on purpose: a clock, chance, entries in memory, locks, retries inside a call, a coordinator, and any
agreement on who is a member. Two views may differ; epochs, promises and leases hold all the same.
"""
