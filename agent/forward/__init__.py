"""Everything else: names of no own zone, asked of upstream servers and kept.

Law: nothing that comes from upstream is believed before it was matched with what was asked, and nothing of it ever
stands for a name of an own zone. A lost upstream takes no answer away that is held.
"""
