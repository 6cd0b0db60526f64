"""Pictures on a device that has numpy alone: PNG and PPM are read and written here."""
