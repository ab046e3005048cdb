-- A database and a role for each service. The passwords are those of a demo: nothing of this is reachable from outside.
CREATE ROLE "order" LOGIN PASSWORD 'order';
CREATE ROLE inventory LOGIN PASSWORD 'inventory';
CREATE ROLE payment LOGIN PASSWORD 'payment';
CREATE ROLE provider LOGIN PASSWORD 'provider';
CREATE ROLE shipping LOGIN PASSWORD 'shipping';

CREATE DATABASE "order" OWNER "order";
CREATE DATABASE inventory OWNER inventory;
CREATE DATABASE payment OWNER payment;
CREATE DATABASE provider OWNER provider;
CREATE DATABASE shipping OWNER shipping;

-- Nobody reads what is another's.
REVOKE CONNECT ON DATABASE "order", inventory, payment, provider, shipping FROM PUBLIC;
