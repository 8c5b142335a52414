"""The calendar: quote, book, cancel, resize, earliest slot."""
