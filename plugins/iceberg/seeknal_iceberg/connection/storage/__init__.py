"""Access to the files of tables: by which keys they are opened, and how they are read and written."""
