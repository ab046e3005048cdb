-- What payment believes of its provider: what it was answered.
create table if not exists payment (
    authorization_id text primary key,
    order_id         text not null,
    amount           bigint not null check (amount > 0),
    state            text not null check (state in ('authorized', 'captured', 'voided')),
    updated_at       text not null
);
