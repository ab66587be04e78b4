-- A retry finds what it repeats for a week at least, also where entries are kept for less: of an entry that retention takes before it is a
-- week old, its number, its time, its client_msg_id and the hash of what was sent stay until then, as kind 0. It has no body, is shown to
-- nobody (its number is not above removed_seq) and is no target.
CREATE INDEX entries_emptied ON entries (at) WHERE kind = 0;
