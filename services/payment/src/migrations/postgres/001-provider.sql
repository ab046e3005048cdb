-- Each request once, by its key: a repeat gets the first answer.
create table if not exists request (
    operation       text not null,
    idempotency_key text not null,
    body            text not null,
    answer          text,
    primary key (operation, idempotency_key)
);

create table if not exists "authorization" (
    id       text primary key,
    order_id text not null,
    customer text not null,
    amount   bigint not null check (amount > 0),
    state    text not null check (state in ('authorized', 'captured', 'voided'))
);

-- Double entry: the postings of each operation add up to nothing, and each operation posts once.
create table if not exists posting (
    authorization_id text not null references "authorization" (id),
    operation        text not null check (operation in ('authorize', 'capture', 'void')),
    account          text not null check (account in ('customers', 'held', 'merchant')),
    amount           bigint not null,
    primary key (authorization_id, operation, account)
);
