"""From runs to what figures, tables and claims read: gathered tables, the points of laws, the fits."""
