"""The engine behind the front end: in this process or in one of its own, and what runs there."""
