-- What the operator's own servers are told. An event is written with what it tells of, in one transaction; sending it comes later.

CREATE TABLE webhook_events (
    id          uuid PRIMARY KEY,
    at          timestamptz NOT NULL,
    -- The request's body, as it is signed each time.
    body        text NOT NULL,
    -- Whether there is a delivery for each endpoint.
    is_spread   boolean NOT NULL DEFAULT false
);
CREATE INDEX webhook_events_new ON webhook_events (at) WHERE NOT is_spread;
CREATE INDEX webhook_events_at ON webhook_events (at);

CREATE TABLE webhook_deliveries (
    event_id    uuid NOT NULL REFERENCES webhook_events ON DELETE CASCADE,
    endpoint    text NOT NULL,
    attempts    integer NOT NULL DEFAULT 0,
    -- When it is to be sent; later than now as well while some node is at it.
    due_at      timestamptz NOT NULL,
    -- Delivered, or given up.
    settled_at  timestamptz,
    last_error  text,
    PRIMARY KEY (event_id, endpoint)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint, due_at) WHERE settled_at IS NULL;
