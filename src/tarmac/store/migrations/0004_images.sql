-- What images ask for, and the environments that they have become.

create table images (
  id {text} not null primary key,
  record {bytes} not null,
  used double precision not null
);
