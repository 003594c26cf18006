-- A database and a role for each service. The roles own their tables and nothing else.
create role orders login password 'orders';
create role payments login password 'payments';
create role shipping login password 'shipping';
create database orders owner orders;
create database payments owner payments;
create database shipping owner shipping;
