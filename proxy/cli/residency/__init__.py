"""What `domicile directory` consists of: rows read from files and checked, effects shown, everybody written out."""
