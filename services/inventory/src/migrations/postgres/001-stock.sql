create table if not exists stock (
    sku       text primary key,
    initial   bigint not null check (initial >= 0),
    available bigint not null check (available >= 0 and available <= initial)
);

-- One reservation per effect: asked for twice, it is there once.
create table if not exists reservation (
    effect      text primary key,
    order_id    text not null,
    reserved_at text not null,
    released_at text
);

create table if not exists reservation_line (
    effect   text not null references reservation (effect),
    sku      text not null references stock (sku),
    quantity bigint not null check (quantity > 0),
    primary key (effect, sku)
);
