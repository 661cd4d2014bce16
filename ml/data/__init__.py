"""Photos and what is known of them: the part of Menagerie that touches the disk."""
