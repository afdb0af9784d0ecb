"""Django's tests of a session store and of its middleware, with ours in their place."""
