"""Gives the HTML of the demo: self-contained, without scripts, and every value in it escaped by whoever fills it in."""

from __future__ import annotations

GOODS = ("A rubber dagger", "A paper moon", "Yorick's skull", "A thunder sheet", "Donkey ears")

STYLE = """
:root { color-scheme: light dark; --ink:#1d2430; --soft:#667085; --line:#d9dee7; --paper:#fff; --ground:#f4f6fa;
  --accent:#2f5bd7; --primary:#0f8a5f; --backup:#b7791f; --proxy:#64748b; --bad:#c0352b; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6e9ef; --soft:#98a2b3; --line:#333b49; --paper:#1b212c;
  --ground:#12161d; --accent:#7f9dff; --primary:#3ecf9a; --backup:#e7b75a; --proxy:#94a3b8; --bad:#ff7b72; } }
* { box-sizing:border-box }
body { margin:0; background:var(--ground); color:var(--ink); font:16px/1.5 system-ui,sans-serif }
main { max-width:60rem; margin:0 auto; padding:1.5rem 1rem 3rem }
header { display:flex; flex-wrap:wrap; gap:.5rem 1rem; align-items:baseline; justify-content:space-between }
h1 { font-size:1.5rem; margin:.2rem 0 } h2 { font-size:1.05rem; margin:0 0 .6rem }
p { margin:.4rem 0 } a { color:var(--accent) } .soft { color:var(--soft) } .bad { color:var(--bad) }
.row { display:grid; grid-template-columns:repeat(auto-fit,minmax(14rem,1fr)); gap:1rem; margin:1rem 0 }
.box { background:var(--paper); border:1px solid var(--line); border-radius:.7rem; padding:1rem }
.role { border-top:.35rem solid var(--proxy) } .role.primary { border-top-color:var(--primary) }
.role.backup { border-top-color:var(--backup) } .role.gone { border-top-color:var(--bad); opacity:.75 }
.role .name { font-size:1.6rem; font-weight:650 } .role .what { font-weight:650; text-transform:uppercase;
  letter-spacing:.06em; font-size:.78rem; color:var(--proxy) }
.role.primary .what { color:var(--primary) } .role.backup .what { color:var(--backup) }
.role.gone .what { color:var(--bad) }
.tag { display:inline-block; border:1px solid var(--line); border-radius:1rem; padding:0 .6rem; font-size:.8rem }
.here { outline:2px solid var(--accent); outline-offset:2px }
form { display:inline } input[type=text] { font:inherit; padding:.4rem .6rem; border:1px solid var(--line);
  border-radius:.4rem; background:var(--ground); color:var(--ink); min-width:0 }
button { font:inherit; padding:.4rem .8rem; border:1px solid var(--accent); border-radius:.4rem;
  background:var(--accent); color:var(--paper); cursor:pointer } button.quiet { background:none; color:var(--accent) }
button.danger { background:none; border-color:var(--bad); color:var(--bad) }
ul { list-style:none; margin:0; padding:0 }
li { display:flex; justify-content:space-between; gap:1rem; padding:.35rem 0; border-bottom:1px solid var(--line) }
li:last-child { border:0 }
table { width:100%; border-collapse:collapse } td,th { text-align:left; padding:.3rem .5rem .3rem 0;
  border-bottom:1px solid var(--line) } code { font-size:.9em }
"""

SHOP = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>The shop on {{ member }}</title><style>{{ style }}</style></head><body><main>
<header><h1>The prop shop</h1>
<p class="soft">served by member <strong>{{ member }}</strong>, worker {{ pid }}
{% if control %} · <a href="{{ control }}">control page: kill a member</a>{% endif %}</p></header>

<section class="row" aria-label="who holds your session">
{% for place in places %}
<div class="box role {{ place.role }}{% if place.member == member %} here{% endif %}">
<div class="what">{{ place.role }}</div>
<div class="name"><a href="{{ place.url }}">{{ place.member }}</a></div>
<p class="soft">{{ place.says }}{% if place.member == member %} <span class="tag">this page</span>{% endif %}</p>
</div>
{% endfor %}
</section>
{% if not user %}
<section class="box"><h2>Log in</h2>
<form method="post" action="/login"><input type="text" name="name" placeholder="your name" aria-label="your name"
 maxlength="40" required autofocus> <button>Log in</button></form>
<p class="soft">Any name will do. There is no session, and no cookie, before you log in.</p></section>
{% else %}
<section class="row">
<div class="box"><h2>Goods</h2><ul>
{% for good in goods %}<li><span>{{ good }}</span>
<form method="post" action="/add"><input type="hidden" name="good" value="{{ good }}">
<input type="hidden" name="order" value="{{ order }}-{{ loop.index }}">
<button class="quiet">Add to the cart</button></form></li>
{% endfor %}</ul></div>
<div class="box"><h2>{{ user }}'s cart: {{ total }}</h2>
<ul>{% for line in cart %}<li><span>{{ line.good }}</span><span class="soft">added on {{ line.member }}</span></li>
{% else %}<li class="soft">empty</li>{% endfor %}</ul>
{% if left_out %}<p class="soft">and {{ left_out }} before these</p>{% endif %}
<p class="soft">{% if protected %}What you see is on two members.{% else %}<strong class="bad">What you see is on
one member only:</strong> no other one is there to hold a copy.{% endif %}</p>
<form method="post" action="/logout"><button class="quiet">Log out</button></form></div>
</section>
{% endif %}
<p class="soft">Click a member's name to see this page there: your browser sends the same cookie to all of them. Then
kill the primary on the control page, and go on shopping.</p>
</main></body></html>
"""

CONTROL = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="2"><title>Control</title><style>{style}</style></head><body><main>
<header><h1>Members of the cluster</h1><p class="soft">looked at anew every two seconds</p></header>
<section class="row">{members}</section>
<section class="box"><h2>Your session</h2>{session}</section>
<p class="soft">Kill ends every process of the member with <code>kill -9</code>: gunicorn, its workers and the agent,
as if its machine had lost its power. Start brings it back with the store that it had.</p>
</main></body></html>
"""

CONTROL_MEMBER = """<div class="box role {role}"><div class="what">{standing}</div>
<div class="name"><a href="{url}">{name}</a></div>{facts}
<form method="post" action="/{verb}"><input type="hidden" name="member" value="{name}">
<input type="hidden" name="token" value="{token}"><button class="{kind}">{label}</button></form></div>
"""
