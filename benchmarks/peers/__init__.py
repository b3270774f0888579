"""The libraries people use today, each with its own idiom; one file a library, imported only when it runs."""
