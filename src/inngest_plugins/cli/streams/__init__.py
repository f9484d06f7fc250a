"""What commands read and write: files, standard streams, logs."""
