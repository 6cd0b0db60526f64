"""Begin a class list: what masks hold, what that is called, and a classes.toml which explains each choice."""
