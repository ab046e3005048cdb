create table if not exists carrier (
    delivery text primary key check (delivery in ('parcel', 'freight')),
    name     text not null,
    up       integer not null check (up in (0, 1))
) strict, without rowid;

-- The freight carrier is down by design: an order that needs it is undone.
insert into carrier values ('parcel', 'swift post', 1), ('freight', 'heavy rail', 0) on conflict do nothing;

-- One shipment per effect: asked for twice, it is there once.
create table if not exists shipment (
    effect     text primary key,
    order_id   text not null,
    carrier    text not null,
    state      text not null check (state in ('booked', 'dispatched', 'cancelled')),
    updated_at text not null
) strict, without rowid;

create index if not exists shipment_by_order on shipment (order_id);
