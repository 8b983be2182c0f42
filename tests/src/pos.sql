-- The point-of-sale database of the demo: three tables, each captured in another way.

-- By the transaction log.
CREATE TABLE customers (
    customer_id bigint PRIMARY KEY,
    email text,
    phone text,
    born date,
    balance numeric(14, 2),
    tags text[],
    profile jsonb,
    active boolean NOT NULL DEFAULT true,
    updated_at timestamptz NOT NULL DEFAULT now(),
    internal_note text
);

-- By triggers.
CREATE TABLE prices (
    sku text NOT NULL,
    currency character(3) NOT NULL,
    amount numeric(14, 4) NOT NULL,
    valid_on daterange,
    purchase_amount numeric(14, 4),
    internal_note text,
    PRIMARY KEY (sku, currency)
);

-- By a column that every write raises.
CREATE TABLE stores (
    store_id integer PRIMARY KEY,
    name text NOT NULL,
    city text,
    opening jsonb,
    floor_area double precision,
    manager_email text,
    closed_at timestamptz,
    internal_note text
);
