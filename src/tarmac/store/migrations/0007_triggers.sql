-- When tasks are started by themselves: what becomes of the triggers that deployed tasks declare, and those that were
-- made without a deployment, which have their spec here.

create table triggers (
  project {text} not null,
  domain {text} not null,
  task {text} not null,
  name {text} not null,
  spec {bytes},
  version {text} not null,
  automation {text} not null,
  active integer not null,
  since double precision not null,
  fired double precision,
  run {text} not null,
  message {text} not null,
  updated double precision not null,
  updated_by {text} not null,
  primary key (project, domain, task, name)
);
