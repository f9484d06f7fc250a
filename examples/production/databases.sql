-- The server's own database, beside the shop's.
CREATE DATABASE inngest;
