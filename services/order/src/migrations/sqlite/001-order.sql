create table if not exists orders (
    number          integer primary key,
    customer        text not null,
    total           integer not null check (total > 0),
    -- What the saga's own events say; kept by the subscription `orders`.
    status          text not null default 'pending' check (status in ('pending', 'completed', 'compensated', 'parked')),
    status_position integer not null default 0,
    placed_at       text not null,
    updated_at      text not null,
    -- Set by the saga's last step, in this database.
    confirmed_at    text
) strict;

create index if not exists orders_open on orders (status) where status in ('pending', 'parked');

create table if not exists order_line (
    number   integer not null references orders (number),
    sku      text not null,
    quantity integer not null check (quantity > 0),
    primary key (number, sku)
) strict, without rowid;

-- What a client has asked for under a key of its own, word for word: a repeat gets the first answer.
create table if not exists idempotency (
    idempotency_key text primary key,
    request         text not null,
    number          integer not null references orders (number)
) strict, without rowid;
