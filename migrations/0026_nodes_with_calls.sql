-- Whether calls take place on a node: others send those who join there.
ALTER TABLE nodes ADD COLUMN has_calls boolean NOT NULL DEFAULT false;
