-- The results of actions whose tasks declare a cache, and what the cache had to do with an action.

create table cache (
  key {text} not null primary key,
  project {text} not null,
  domain {text} not null,
  task {text} not null,
  version {text} not null,
  run {text} not null,
  action {text} not null,
  outputs {bytes},
  outputs_blob {text},
  created double precision not null,
  seconds double precision not null
);

create index cache_by_age on cache (project, domain, created);

create index cache_by_task on cache (project, domain, task, created);

alter table actions add column cache_key {text};

alter table actions add column cache {bytes};
