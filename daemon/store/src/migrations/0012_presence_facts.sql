-- Whether a device held a link when it was heard last, to whichever replica, and what its machine is like.

ALTER TABLE presence ADD COLUMN attached BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE presence ADD COLUMN facts TEXT;
