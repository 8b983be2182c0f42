-- The cluster writes values as oddly as it can; these two Debezium must have otherwise.
CREATE ROLE debezium SUPERUSER REPLICATION LOGIN PASSWORD '{PASSWORD}';
ALTER ROLE debezium SET bytea_output = 'hex';
ALTER ROLE debezium SET extra_float_digits = 1;

-- Large columns, and whole rows in the log.
CREATE TABLE people (
    id bigint NOT NULL, email text, tier text DEFAULT 'silver', balance numeric(14, 2), biography text, details jsonb,
    seen timestamptz, photo bytea, tags text[], score double precision, span interval
);
ALTER TABLE people REPLICA IDENTITY FULL;

-- Partitions, a key of two columns, and a large column that no model lists.
CREATE TABLE orders (
    region text, id integer, total numeric(12, 3), ordered timestamp, scan text, PRIMARY KEY (region, id)
) PARTITION BY LIST (region);
CREATE TABLE orders_north PARTITION OF orders FOR VALUES IN ('north');
CREATE TABLE orders_south PARTITION OF orders FOR VALUES IN ('south');

CREATE FUNCTION large() RETURNS text LANGUAGE sql AS
    $$ SELECT string_agg(md5(i::text || random()), '') FROM generate_series(1, 200) AS i $$;

CREATE FUNCTION gate(id bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock(id); RETURN id; END $$;
-- Made before the primary key, so that it is written before: a row of this id waits between its place in the log and
-- the check that its key is free.
CREATE INDEX gate ON people (gate(id)) WHERE id = 77;
ALTER TABLE people ADD PRIMARY KEY (id);

INSERT INTO people
    SELECT i, 'p' || i || '@example.com', CASE WHEN i % 3 > 0 THEN 'gold' END, i * 1.10,
        CASE i % 4 WHEN 0 THEN large() WHEN 1 THEN 'short' END, json_build_object('points', i, 'rate', 1.10),
        timestamptz '2026-11-30 12:00:00.120+01' + i * interval '1 hour', decode(md5(i::text), 'hex'), ARRAY['a"b', NULL],
        1 / i::double precision, make_interval(months => i, secs => i * 0.25)
    FROM generate_series(1, 240) AS i;
INSERT INTO orders
    SELECT CASE i % 2 WHEN 0 THEN 'north' ELSE 'south' END, i, i * 0.125, now(), large() FROM generate_series(1, 40) AS i;
